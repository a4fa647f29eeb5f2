// WebSocketStompClient over StandardWebSocketClient, as SafeClient makes it.

package naru;

import jakarta.websocket.ContainerProvider;
import jakarta.websocket.WebSocketContainer;
import org.springframework.messaging.simp.stomp.StompHeaders;
import org.springframework.messaging.simp.stomp.StompSessionHandler;
import org.springframework.web.socket.WebSocketHttpHeaders;
import org.springframework.web.socket.messaging.WebSocketStompClient;

class OverWebSocketTest extends ClientChecks {

	/** A body of a mebibyte and its headers. */
	static final int FRAME_BYTES_MAX = 1_310_720;

	static WebSocketStompClient client() {
		// The defaults of Tomcat are 8 KiB, and of Spring 64 KiB.
		WebSocketContainer container = ContainerProvider.getWebSocketContainer();
		container.setDefaultMaxTextMessageBufferSize(FRAME_BYTES_MAX);
		container.setDefaultMaxBinaryMessageBufferSize(FRAME_BYTES_MAX);
		WebSocketStompClient client = new WebSocketStompClient(new SafeClient(container));
		client.setInboundMessageSizeLimit(FRAME_BYTES_MAX);
		client.setMessageConverter(converter());
		return client;
	}

	@Override
	protected void connect(StompHeaders headers, StompSessionHandler handler) {
		WebSocketStompClient client = client();
		client.setTaskScheduler(this.scheduler);
		client.setDefaultHeartbeat(new long[] {1000, 1000});
		String url = "ws://127.0.0.1:" + this.link.port() + "/stomp";
		client.connectAsync(url, new WebSocketHttpHeaders(), headers, handler);
	}

	@Override
	protected Link link() throws Exception {
		return new Link(this.server::http);
	}
}
