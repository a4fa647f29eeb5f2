// A Spring application as teams run it in front of RabbitMQ: STOMP over WebSocket for browsers, its own
// @MessageMapping methods, and a broker behind it that carries topics and queues. Here the broker is Naru.

package naru;

import java.nio.file.Files;
import java.nio.file.Path;
import java.security.Principal;
import java.util.Map;
import java.util.concurrent.BlockingQueue;
import java.util.concurrent.LinkedBlockingQueue;
import java.util.concurrent.TimeUnit;
import org.apache.catalina.Context;
import org.apache.catalina.startup.Tomcat;
import org.apache.tomcat.websocket.server.WsSci;
import org.springframework.context.annotation.Configuration;
import org.springframework.context.event.EventListener;
import org.springframework.http.server.ServerHttpRequest;
import org.springframework.messaging.converter.MessageConverter;
import org.springframework.messaging.handler.annotation.DestinationVariable;
import org.springframework.messaging.handler.annotation.MessageMapping;
import org.springframework.messaging.handler.annotation.Payload;
import org.springframework.messaging.handler.annotation.SendTo;
import org.springframework.messaging.simp.SimpMessagingTemplate;
import org.springframework.messaging.simp.annotation.SendToUser;
import org.springframework.messaging.simp.annotation.SubscribeMapping;
import org.springframework.messaging.simp.broker.BrokerAvailabilityEvent;
import org.springframework.messaging.simp.config.MessageBrokerRegistry;
import org.springframework.messaging.simp.user.SimpUserRegistry;
import org.springframework.stereotype.Controller;
import org.springframework.web.context.support.AnnotationConfigWebApplicationContext;
import org.springframework.web.servlet.DispatcherServlet;
import org.springframework.web.socket.WebSocketHandler;
import org.springframework.web.socket.config.annotation.EnableWebSocketMessageBroker;
import org.springframework.web.socket.config.annotation.StompEndpointRegistry;
import org.springframework.web.socket.config.annotation.WebSocketMessageBrokerConfigurer;
import org.springframework.web.socket.server.support.DefaultHandshakeHandler;

final class ChatApplication implements AutoCloseable {

	private final Tomcat tomcat = new Tomcat();
	private final Path folder = Files.createTempDirectory("spring-");
	private final AnnotationConfigWebApplicationContext context = new AnnotationConfigWebApplicationContext();

	ChatApplication(int brokerPort) throws Exception {
		this.context.addBeanFactoryPostProcessor(
				(beans) -> beans.registerSingleton("brokerPort", new BrokerPort(brokerPort)));
		this.context.register(Config.class, Rooms.class, Availability.class);
		this.tomcat.setBaseDir(this.folder.toString());
		this.tomcat.setHostname("127.0.0.1");
		this.tomcat.setPort(0);
		this.tomcat.getConnector();
		Context web = this.tomcat.addContext("", this.folder.toString());
		web.addServletContainerInitializer(new WsSci(), null);
		var servlet = Tomcat.addServlet(web, "dispatcher", new DispatcherServlet(this.context));
		servlet.setLoadOnStartup(1);
		servlet.setAsyncSupported(true);
		servlet.addMapping("/");
		this.tomcat.start();
	}

	String url() {
		return "ws://127.0.0.1:" + this.tomcat.getConnector().getLocalPort() + "/chat";
	}

	SimpMessagingTemplate template() {
		return this.context.getBean(SimpMessagingTemplate.class);
	}

	SimpUserRegistry users() {
		return this.context.getBean(SimpUserRegistry.class);
	}

	/** Waits until the relay says that its broker has come, or gone. */
	void awaitBroker(boolean isThere) throws InterruptedException {
		Availability availability = this.context.getBean(Availability.class);
		while (true) {
			Boolean next = availability.events.poll(NaruServer.DEADLINE_SECONDS, TimeUnit.SECONDS);
			if (next == null) {
				throw new AssertionError("the broker did not " + (isThere ? "come" : "go"));
			}
			if (next == isThere) {
				return;
			}
		}
	}

	@Override
	public void close() throws Exception {
		this.context.close();
		this.tomcat.stop();
		this.tomcat.destroy();
	}

	record BrokerPort(int port) {
	}

	static class Availability {

		final BlockingQueue<Boolean> events = new LinkedBlockingQueue<>();

		@EventListener
		public void on(BrokerAvailabilityEvent event) {
			this.events.add(event.isBrokerAvailable());
		}
	}

	@Controller
	static class Rooms {

		@MessageMapping("/rooms/{room}")
		@SendTo("/topic/room.{room}")
		String say(@DestinationVariable String room, @Payload String text, Principal who) {
			return who.getName() + " in " + room + ": " + text;
		}

		@MessageMapping("/whoami")
		@SendToUser(destinations = "/queue/answers", broadcast = false)
		String whoami(Principal who) {
			return "you are " + who.getName();
		}

		@SubscribeMapping("/rules")
		String rules() {
			return "be kind";
		}
	}

	@Configuration
	@EnableWebSocketMessageBroker
	static class Config implements WebSocketMessageBrokerConfigurer {

		private final BrokerPort broker;

		Config(BrokerPort broker) {
			this.broker = broker;
		}

		@Override
		public void registerStompEndpoints(StompEndpointRegistry registry) {
			// The application's own login; here a header says who it is.
			registry.setPreserveReceiveOrder(true);
			registry.addEndpoint("/chat").setHandshakeHandler(new DefaultHandshakeHandler() {
				@Override
				protected Principal determineUser(ServerHttpRequest request, WebSocketHandler handler, Map<String, Object> attributes) {
					String name = request.getHeaders().getFirst("X-User");
					return () -> name;
				}
			});
		}

		@Override
		public void configureMessageBroker(MessageBrokerRegistry registry) {
			registry.setApplicationDestinationPrefixes("/app");
			// Without these two the application's own threads let messages overtake each other.
			registry.setPreservePublishOrder(true);
			registry.enableStompBrokerRelay("/topic", "/queue")
					.setRelayHost("127.0.0.1")
					.setRelayPort(this.broker.port())
					.setSystemLogin("spring")
					.setSystemPasscode(NaruServer.PASSCODE)
					.setClientLogin("spring")
					.setClientPasscode(NaruServer.PASSCODE)
					.setSystemHeartbeatSendInterval(1000)
					.setSystemHeartbeatReceiveInterval(1000)
					.setUserDestinationBroadcast("/topic/unresolved-user-destination")
					.setUserRegistryBroadcast("/topic/simp-user-registry");
		}

		@Override
		public boolean configureMessageConverters(java.util.List<MessageConverter> converters) {
			converters.add(ClientChecks.converter());
			return false;
		}
	}
}
