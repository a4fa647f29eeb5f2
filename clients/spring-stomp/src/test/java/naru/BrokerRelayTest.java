// Naru as the broker behind Spring applications that use enableStompBrokerRelay: two instances, as behind a load
// balancer.

package naru;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertNotNull;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.util.List;
import java.util.Map;
import java.util.stream.IntStream;
import naru.Party.Heard;
import naru.Party.Inbox;
import org.junit.jupiter.api.AfterAll;
import org.junit.jupiter.api.BeforeAll;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.TestInstance;
import org.springframework.messaging.simp.stomp.StompHeaders;
import org.springframework.scheduling.concurrent.ThreadPoolTaskScheduler;
import org.springframework.web.socket.WebSocketHttpHeaders;
import org.springframework.web.socket.messaging.WebSocketStompClient;

@TestInstance(TestInstance.Lifecycle.PER_CLASS)
class BrokerRelayTest {

	private final ThreadPoolTaskScheduler scheduler = new ThreadPoolTaskScheduler();
	private NaruServer broker;
	private Link link;
	private ChatApplication one;
	private ChatApplication other;

	@BeforeAll
	void start() throws Exception {
		this.scheduler.initialize();
		this.broker = new NaruServer();
		this.link = new Link(this.broker::stomp);
		this.one = new ChatApplication(this.link.port());
		this.other = new ChatApplication(this.link.port());
		this.one.awaitBroker(true);
		this.other.awaitBroker(true);
	}

	@AfterAll
	void stop() throws Exception {
		this.one.close();
		this.other.close();
		this.link.close();
		this.broker.close();
		this.scheduler.shutdown();
	}

	private Party connect(ChatApplication application, String user) throws Exception {
		WebSocketStompClient client = OverWebSocketTest.client();
		client.setTaskScheduler(this.scheduler);
		WebSocketHttpHeaders headers = new WebSocketHttpHeaders();
		headers.add("X-User", user);
		Party party = new Party();
		client.connectAsync(application.url(), headers, new StompHeaders(), party);
		party.connected();
		return party;
	}

	@Test
	void an_application_keeps_its_conventions() throws Exception {
		Party ann = connect(this.one, "ann");
		Party bob = connect(this.other, "bob");
		Inbox annsRoom = ann.subscribe("/topic/room.blue");
		Inbox bobsRoom = bob.subscribe("/topic/room.blue");
		// Through the application, to everybody on both instances.
		ann.send("/app/rooms/blue", "hi", Map.of());
		assertEquals("ann in blue: hi", annsRoom.next().text());
		assertEquals("ann in blue: hi", bobsRoom.next().text());
		// Past the application, with a receipt of the broker's.
		bob.say("/topic/room.blue", "grüße", Map.of("colour", "a:b\nc"));
		Heard heard = annsRoom.next();
		assertEquals("grüße", heard.text());
		assertEquals("a:b\nc", heard.header("colour"));
		assertEquals("grüße", bobsRoom.next().text());
		// From the application, without a client.
		this.one.template().convertAndSend("/topic/room.blue", "closing soon");
		assertEquals("closing soon", annsRoom.next().text());
		assertEquals("closing soon", bobsRoom.next().text());
		// And from a back end that knows nothing of Spring.
		this.broker.publish("room.blue", "\"from elsewhere\"");
		assertEquals("\"from elsewhere\"", annsRoom.next().text());
		ann.disconnect();
		bob.disconnect();
	}

	@Test
	void users_are_reached_wherever_they_are_connected() throws Exception {
		Party ann = connect(this.one, "ann");
		Party bob = connect(this.other, "bob");
		Inbox answers = ann.subscribe("/user/queue/answers");
		Inbox anns = ann.subscribe("/user/queue/news");
		Inbox bobs = bob.subscribe("/user/queue/news");
		// An answer goes to the session that asked.
		ann.send("/app/whoami", "", Map.of());
		Heard heard = answers.next();
		assertEquals("you are ann", heard.text());
		assertEquals("/user/queue/answers", heard.headers().getDestination());
		// The instance that does not have the user asks the others, over the broker.
		this.one.template().convertAndSendToUser("bob", "/queue/news", "for bob");
		assertEquals("for bob", bobs.next().text());
		bob.send("/user/ann/queue/news", "from bob", Map.of());
		assertEquals("from bob", anns.next().text());
		assertEquals(0, bobs.waiting());
		ann.disconnect();
		bob.disconnect();
	}

	@Test
	void acknowledgement_and_positions_pass_through_the_application() throws Exception {
		Party ann = connect(this.one, "ann");
		Inbox inbox = ann.subscribe("/topic/kept:room", Map.of("ack", "client-individual", "prefetch-count", "1"));
		ann.say("/topic/kept:room", "one");
		ann.say("/topic/kept:room", "two");
		Heard first = inbox.next();
		assertEquals("one", first.text());
		assertEquals(0, inbox.waiting());
		ann.acknowledge(first, true);
		Heard second = inbox.next();
		assertEquals("two", second.text());
		ann.disconnect();
		Party back = connect(this.other, "ann");
		Inbox again = back.subscribe("/topic/kept:room", Map.of("last-position", first.header("position")));
		assertEquals("true", again.told("recovered"));
		assertEquals("two", again.next().text());
		back.disconnect();
	}

	@Test
	void an_application_lives_through_the_death_of_its_broker() throws Exception {
		Party ann = connect(this.one, "ann");
		Inbox inbox = ann.subscribe("/topic/kept:news");
		this.one.template().convertAndSend("/topic/kept:news", "before");
		String position = inbox.next().header("position");
		for (int number = 0; number < 10; number++) {
			ann.say("/topic/kept:news", "kept " + number);
		}
		assertEquals("kept 0", inbox.next().text());
		this.broker.kill();
		this.one.awaitBroker(false);
		this.other.awaitBroker(false);
		// Spring tells its clients, and they have to come back.
		assertNotNull(ann.error());
		assertNotNull(ann.lost());
		this.broker.start();
		this.one.awaitBroker(true);
		this.other.awaitBroker(true);
		Party back = connect(this.other, "ann");
		Inbox again = back.subscribe("/topic/kept:news", Map.of("last-position", position));
		assertEquals("true", again.told("recovered"));
		List<String> kept = IntStream.range(0, 10).mapToObj((number) -> "kept " + number).toList();
		assertEquals(kept, again.texts(10));
		this.one.template().convertAndSend("/topic/kept:news", "after");
		assertEquals("after", again.next().text());
		back.disconnect();
	}

	@Test
	void the_connections_of_the_application_live_on_heart_beats() throws Exception {
		// The system connections of both instances are silent but for them.
		this.link.awaitBursts(10);
		Party ann = connect(this.one, "ann");
		Inbox inbox = ann.subscribe("/topic/late");
		this.other.template().convertAndSend("/topic/late", "still here");
		assertEquals("still here", inbox.next().text());
		assertTrue(this.one.users().getUsers().stream().anyMatch((user) -> user.getName().equals("ann")));
		ann.disconnect();
	}

	@Test
	void what_the_broker_refuses_reaches_the_client() throws Exception {
		Party ann = connect(this.one, "ann");
		ann.send("/topic/nowhere:x", "x", Map.of("receipt", "m-1"));
		Heard error = ann.error();
		assertEquals("unknown_destination", error.header("code"));
		assertEquals("m-1", error.headers().getReceiptId());
		assertNotNull(ann.lost());
	}
}
