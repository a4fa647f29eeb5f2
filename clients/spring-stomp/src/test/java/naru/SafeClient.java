// Spring's WebSocketStompClient writes heart-beats from its scheduler while the application sends, and Tomcat's
// sockets take one writer at a time: this puts Spring's own queue between them.

package naru;

import jakarta.websocket.WebSocketContainer;
import java.net.URI;
import java.util.concurrent.CompletableFuture;
import org.springframework.web.socket.WebSocketHandler;
import org.springframework.web.socket.WebSocketHttpHeaders;
import org.springframework.web.socket.WebSocketSession;
import org.springframework.web.socket.client.WebSocketClient;
import org.springframework.web.socket.client.standard.StandardWebSocketClient;
import org.springframework.web.socket.handler.ConcurrentWebSocketSessionDecorator;
import org.springframework.web.socket.handler.WebSocketHandlerDecorator;

final class SafeClient implements WebSocketClient {

	private static final int SEND_TIME_LIMIT_MS = 10_000;
	private static final int BUFFER_BYTES_MAX = 4 << 20;

	private final WebSocketClient client;

	SafeClient(WebSocketContainer container) {
		this.client = new StandardWebSocketClient(container);
	}

	@Override
	public CompletableFuture<WebSocketSession> execute(WebSocketHandler handler, String url, Object... variables) {
		return this.client.execute(decorate(handler), url, variables);
	}

	@Override
	public CompletableFuture<WebSocketSession> execute(WebSocketHandler handler, WebSocketHttpHeaders headers, URI uri) {
		return this.client.execute(decorate(handler), headers, uri);
	}

	private static WebSocketHandler decorate(WebSocketHandler handler) {
		return new WebSocketHandlerDecorator(handler) {
			@Override
			public void afterConnectionEstablished(WebSocketSession session) throws Exception {
				super.afterConnectionEstablished(
						new ConcurrentWebSocketSessionDecorator(session, SEND_TIME_LIMIT_MS, BUFFER_BYTES_MAX));
			}
		};
	}
}
