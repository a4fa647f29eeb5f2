// A client of Spring's that is connected, what it was told, and ways to wait for it.

package naru;

import static org.junit.jupiter.api.Assertions.assertNotNull;
import static org.junit.jupiter.api.Assertions.assertNull;

import java.lang.reflect.Type;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.concurrent.BlockingQueue;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.LinkedBlockingQueue;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicInteger;
import org.springframework.messaging.simp.stomp.StompCommand;
import org.springframework.messaging.simp.stomp.StompFrameHandler;
import org.springframework.messaging.simp.stomp.StompHeaders;
import org.springframework.messaging.simp.stomp.StompSession;
import org.springframework.messaging.simp.stomp.StompSessionHandlerAdapter;
import org.springframework.util.MimeTypeUtils;

final class Party extends StompSessionHandlerAdapter {

	/** A frame, with its body as text. */
	record Heard(StompHeaders headers, Object payload) {

		String text() {
			return (this.payload instanceof byte[] bytes) ? new String(bytes, StandardCharsets.UTF_8) : (String) this.payload;
		}

		String header(String name) {
			return this.headers.getFirst(name);
		}
	}

	/** What a subscription got. */
	static final class Inbox implements StompFrameHandler {

		private final BlockingQueue<Heard> heard = new LinkedBlockingQueue<>();
		private StompSession.Subscription subscription;
		private StompHeaders told;

		@Override
		public Type getPayloadType(StompHeaders headers) {
			return payloadType(headers);
		}

		@Override
		public void handleFrame(StompHeaders headers, Object payload) {
			this.heard.add(new Heard(headers, payload));
		}

		Heard next() throws InterruptedException {
			Heard next = this.heard.poll(NaruServer.DEADLINE_SECONDS, TimeUnit.SECONDS);
			assertNotNull(next, "no message came");
			return next;
		}

		List<String> texts(int count) throws InterruptedException {
			List<String> texts = new ArrayList<>();
			while (texts.size() < count) {
				texts.add(next().text());
			}
			return texts;
		}

		/** What has come so far and nobody asked for. */
		int waiting() {
			return this.heard.size();
		}

		/** What the receipt of SUBSCRIBE said. */
		String told(String header) {
			return this.told.getFirst(header);
		}

		void unsubscribe() {
			this.subscription.unsubscribe();
		}
	}

	private final CompletableFuture<StompHeaders> connected = new CompletableFuture<>();
	private final CompletableFuture<Heard> error = new CompletableFuture<>();
	private final CompletableFuture<Throwable> lost = new CompletableFuture<>();
	private final CompletableFuture<Throwable> mistake = new CompletableFuture<>();
	private final AtomicInteger receipts = new AtomicInteger();
	private StompSession session;

	@Override
	public void afterConnected(StompSession session, StompHeaders headers) {
		this.session = session;
		this.connected.complete(headers);
	}

	@Override
	public Type getPayloadType(StompHeaders headers) {
		return payloadType(headers);
	}

	/** An ERROR frame. */
	@Override
	public void handleFrame(StompHeaders headers, Object payload) {
		this.error.complete(new Heard(headers, payload));
	}

	@Override
	public void handleException(StompSession session, StompCommand command, StompHeaders headers, byte[] payload, Throwable exception) {
		this.mistake.complete(exception);
	}

	@Override
	public void handleTransportError(StompSession session, Throwable exception) {
		this.lost.complete(exception);
	}

	/** What CONNECTED said. */
	StompHeaders connected() throws Exception {
		return wait(this.connected);
	}

	/** The ERROR frame that is bound to come. */
	Heard error() throws Exception {
		return wait(this.error);
	}

	/** Waits for the end of the connection. */
	Throwable lost() throws Exception {
		return wait(this.lost);
	}

	/** Subscribes, and waits until the subscription is in place. */
	Inbox subscribe(String destination, Map<String, String> more) throws Exception {
		return subscribe(destination, more, new Inbox());
	}

	Inbox subscribe(String destination) throws Exception {
		return subscribe(destination, Map.of());
	}

	private Inbox subscribe(String destination, Map<String, String> more, Inbox inbox) throws Exception {
		StompHeaders headers = new StompHeaders();
		headers.setDestination(destination);
		headers.setReceipt(nextReceipt());
		more.forEach(headers::set);
		CompletableFuture<StompHeaders> receipt = new CompletableFuture<>();
		inbox.subscription = this.session.subscribe(headers, inbox);
		inbox.subscription.addReceiptTask(receipt::complete);
		inbox.subscription.addReceiptLostTask(() -> receipt.completeExceptionally(new AssertionError("no receipt")));
		inbox.told = wait(receipt);
		return inbox;
	}

	/** Sends, and waits for the receipt. */
	void say(String destination, Object body, Map<String, String> more) throws Exception {
		StompHeaders headers = new StompHeaders();
		headers.setDestination(destination);
		more.forEach(headers::set);
		headers.setReceipt(nextReceipt());
		CompletableFuture<Void> receipt = new CompletableFuture<>();
		StompSession.Receiptable sent = this.session.send(headers, body);
		sent.addReceiptTask(() -> receipt.complete(null));
		sent.addReceiptLostTask(() -> receipt.completeExceptionally(new AssertionError("no receipt")));
		wait(receipt);
	}

	void say(String destination, Object body) throws Exception {
		say(destination, body, Map.of());
	}

	/** Sends and does not wait. */
	void send(String destination, Object body, Map<String, String> more) {
		StompHeaders headers = new StompHeaders();
		headers.setDestination(destination);
		more.forEach(headers::set);
		this.session.send(headers, body);
	}

	void acknowledge(Heard heard, boolean isConsumed) {
		this.session.acknowledge(heard.headers().getAck(), isConsumed);
	}

	/** Says goodbye; everything before it has been processed. */
	void disconnect() {
		this.session.disconnect();
		assertNull(this.mistake.getNow(null), "Spring's client found a mistake");
	}

	private String nextReceipt() {
		return "r-" + this.receipts.incrementAndGet();
	}

	static <T> T wait(CompletableFuture<T> future) throws Exception {
		return future.get(NaruServer.DEADLINE_SECONDS, TimeUnit.SECONDS);
	}

	private static Type payloadType(StompHeaders headers) {
		boolean isBytes = MimeTypeUtils.APPLICATION_OCTET_STREAM.equals(headers.getContentType());
		return isBytes ? byte[].class : String.class;
	}
}
