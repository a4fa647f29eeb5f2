// ReactorNettyTcpStompClient.

package naru;

import java.util.ArrayList;
import java.util.List;
import org.junit.jupiter.api.AfterEach;
import org.springframework.messaging.simp.stomp.ReactorNettyTcpStompClient;
import org.springframework.messaging.simp.stomp.StompHeaders;
import org.springframework.messaging.simp.stomp.StompSessionHandler;

class OverTcpTest extends ClientChecks {

	private final List<ReactorNettyTcpStompClient> clients = new ArrayList<>();

	@Override
	protected void connect(StompHeaders headers, StompSessionHandler handler) {
		ReactorNettyTcpStompClient client = new ReactorNettyTcpStompClient("127.0.0.1", this.link.port());
		client.setTaskScheduler(this.scheduler);
		client.setDefaultHeartbeat(new long[] {1000, 1000});
		client.setMessageConverter(converter());
		this.clients.add(client);
		client.connectAsync(headers, handler);
	}

	@AfterEach
	void shutDown() {
		this.clients.forEach(ReactorNettyTcpStompClient::shutdown);
		this.clients.clear();
	}

	@Override
	protected Link link() throws Exception {
		return new Link(this.server::stomp);
	}
}
