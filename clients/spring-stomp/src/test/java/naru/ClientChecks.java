// What applications do with Spring's STOMP clients, whichever transport they use.

package naru;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertNotNull;
import static org.junit.jupiter.api.Assertions.assertNull;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.nio.charset.StandardCharsets;
import java.util.List;
import java.util.Map;
import java.util.stream.IntStream;
import naru.Party.Heard;
import naru.Party.Inbox;
import org.junit.jupiter.api.AfterAll;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeAll;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.TestInstance;
import org.springframework.messaging.converter.ByteArrayMessageConverter;
import org.springframework.messaging.converter.CompositeMessageConverter;
import org.springframework.messaging.converter.MessageConverter;
import org.springframework.messaging.converter.StringMessageConverter;
import org.springframework.messaging.simp.stomp.StompHeaders;
import org.springframework.messaging.simp.stomp.StompSessionHandler;
import org.springframework.scheduling.concurrent.ThreadPoolTaskScheduler;

@TestInstance(TestInstance.Lifecycle.PER_CLASS)
abstract class ClientChecks {

	private static final Map<String, String> ONE_BY_ONE = Map.of("ack", "client-individual");

	protected NaruServer server;
	protected Link link;
	protected final ThreadPoolTaskScheduler scheduler = new ThreadPoolTaskScheduler();

	/** Connects through the link. */
	protected abstract void connect(StompHeaders headers, StompSessionHandler handler);

	/** Where the link leads. */
	protected abstract Link link() throws Exception;

	@BeforeAll
	void startServer() throws Exception {
		this.scheduler.initialize();
		this.server = new NaruServer();
	}

	@AfterAll
	void stopServer() throws Exception {
		this.scheduler.shutdown();
		this.server.close();
	}

	@BeforeEach
	void openLink() throws Exception {
		this.link = link();
	}

	@AfterEach
	void closeLink() throws Exception {
		this.link.close();
	}

	/** Text as text, bytes as bytes. */
	static MessageConverter converter() {
		return new CompositeMessageConverter(
				List.of(new StringMessageConverter(StandardCharsets.UTF_8), new ByteArrayMessageConverter()));
	}

	protected Party connect(Map<String, String> headers) {
		StompHeaders connect = new StompHeaders();
		headers.forEach(connect::set);
		Party party = new Party();
		connect(connect, party);
		return party;
	}

	private Party connectAs(String user) throws Exception {
		Party party = connect(Map.of("login", user, "passcode", NaruServer.PASSCODE));
		party.connected();
		return party;
	}

	@Test
	void connects_subscribes_sends_and_hears_itself() throws Exception {
		Party ann = connectAs("ann");
		assertEquals("1.2", ann.connected().getFirst("version"));
		assertArrayEquals(new long[] {1000, 1000}, ann.connected().getHeartbeat());
		assertNotNull(ann.connected().getSession());
		assertTrue(ann.connected().getServer().startsWith("naru/"));
		Inbox inbox = ann.subscribe("/topic/a");
		ann.say("/topic/a", "grüße", Map.of("colour", "a:b\nc\\d"));
		Heard heard = inbox.next();
		assertEquals("grüße", heard.text());
		assertEquals("a:b\nc\\d", heard.header("colour"));
		assertEquals("/topic/a", heard.headers().getDestination());
		inbox.unsubscribe();
		ann.say("/topic/a", "unheard");
		assertEquals(0, inbox.waiting());
		ann.disconnect();
	}

	@Test
	void bytes_and_a_mebibyte_arrive_whole() throws Exception {
		Party ann = connectAs("ann");
		Inbox inbox = ann.subscribe("/topic/big");
		byte[] bytes = {0, -1, 10, 0};
		ann.say("/topic/big", bytes, Map.of("content-type", "application/octet-stream"));
		assertArrayEquals(bytes, (byte[]) inbox.next().payload());
		String large = "x".repeat(1 << 20);
		ann.say("/topic/big", large);
		assertEquals(large, inbox.next().text());
		ann.disconnect();
	}

	@Test
	void a_token_in_the_headers_of_connect_says_who_it_is() throws Exception {
		Party cat = connect(Map.of("Authorization", "Bearer " + NaruServer.token("cat")));
		cat.connected();
		Inbox inbox = cat.subscribe("/user/queue/news");
		Party ann = connectAs("ann");
		ann.say("/user/cat/queue/news", "for you alone");
		Heard heard = inbox.next();
		assertEquals("for you alone", heard.text());
		assertEquals("/user/queue/news", heard.headers().getDestination());
		Party forged = connect(Map.of("Authorization", "Bearer " + NaruServer.token("cat") + "x"));
		assertEquals("bad_credentials", forged.error().header("code"));
		ann.disconnect();
		cat.disconnect();
	}

	@Test
	void a_back_end_reaches_clients_and_users_over_http() throws Exception {
		Party ann = connectAs("ann");
		Inbox topic = ann.subscribe("/topic/kept:offers");
		Inbox own = ann.subscribe("/user/queue/orders");
		this.server.publish("kept:offers", "{\"price\": 1}");
		this.server.publish("user:queue/orders#ann", "{\"state\": \"sent\"}");
		assertEquals("{\"price\": 1}", topic.next().text());
		assertEquals("{\"state\": \"sent\"}", own.next().text());
		ann.disconnect();
	}

	@Test
	void acknowledging_one_message_makes_room_for_one() throws Exception {
		Party ann = connectAs("ann");
		Inbox inbox = ann.subscribe("/topic/kept:one", Map.of("ack", "client-individual", "prefetch-count", "2"));
		for (int number = 0; number < 6; number++) {
			ann.say("/topic/kept:one", String.valueOf(number));
		}
		for (int number = 0; number < 6; number++) {
			Heard heard = inbox.next();
			assertEquals(String.valueOf(number), heard.text());
			assertTrue(inbox.waiting() <= 1);
			ann.acknowledge(heard, true);
		}
		ann.disconnect();
	}

	@Test
	void acknowledging_in_client_mode_covers_all_before() throws Exception {
		Party ann = connectAs("ann");
		Inbox inbox = ann.subscribe("/queue/many", Map.of("ack", "client"));
		for (int number = 0; number < 4; number++) {
			ann.say("/queue/many", String.valueOf(number));
		}
		inbox.next();
		inbox.next();
		ann.acknowledge(inbox.next(), true);
		inbox.next();
		ann.say("/topic/a", "the ACK has been counted");
		this.link.cut();
		ann.lost();
		Party bob = connectAs("bob");
		Heard again = bob.subscribe("/queue/many").next();
		assertEquals("3", again.text());
		assertEquals("true", again.header("redelivered"));
		bob.disconnect();
	}

	@Test
	void work_that_is_refused_is_done_by_another() throws Exception {
		Party ann = connectAs("ann");
		Inbox lazy = ann.subscribe("/queue/jobs", ONE_BY_ONE);
		ann.say("/queue/jobs", "sweep");
		Heard job = lazy.next();
		Party bob = connectAs("bob");
		Inbox able = bob.subscribe("/queue/jobs", ONE_BY_ONE);
		ann.acknowledge(job, false);
		Heard again = able.next();
		assertEquals("sweep", again.text());
		assertEquals("true", again.header("redelivered"));
		bob.acknowledge(again, true);
		bob.disconnect();
		ann.disconnect();
	}

	@Test
	void an_answer_finds_its_way_back() throws Exception {
		Party ann = connectAs("ann");
		Party bob = connectAs("bob");
		Inbox questions = bob.subscribe("/topic/questions");
		Inbox answers = ann.subscribe("/temp-queue/answers");
		ann.say("/topic/questions", "why?", Map.of("reply-to", "/temp-queue/answers"));
		bob.say(questions.next().header("reply-to"), "because");
		assertEquals("because", answers.next().text());
		ann.disconnect();
		bob.disconnect();
	}

	@Test
	void a_refusal_says_why() throws Exception {
		Party stranger = connect(Map.of("login", "ann", "passcode", "wrong"));
		assertEquals("bad_credentials", stranger.error().header("code"));
		assertNotNull(stranger.lost());
		Party ann = connectAs("ann");
		ann.send("/topic/nowhere:x", "x", Map.of("receipt", "m-1"));
		Heard error = ann.error();
		assertEquals("unknown_destination", error.header("code"));
		assertEquals("m-1", error.headers().getReceiptId());
		assertTrue(error.text().startsWith("The SEND frame was refused") || !error.text().isBlank());
		assertNotNull(ann.lost());
	}

	@Test
	void a_connection_lives_on_heart_beats() throws Exception {
		Party ann = connectAs("ann");
		// One a second: longer than either side waits for one that is silent.
		this.link.awaitBursts(5);
		ann.say("/topic/a", "still here");
		ann.disconnect();
	}

	@Test
	void both_sides_notice_a_dead_link() throws Exception {
		Party ann = connectAs("ann");
		this.link.die();
		assertNotNull(ann.lost());
		this.link.awaitEndOfServer();
	}

	@Test
	void nothing_is_missed_across_a_cut() throws Exception {
		missesNothing("kept:cut", () -> {
		});
	}

	@Test
	void nothing_is_missed_across_a_restart() throws Exception {
		missesNothing("kept:restart", () -> {
			this.server.terminate();
			this.server.start();
		});
	}

	@Test
	void nothing_is_missed_across_the_death_of_the_server() throws Exception {
		missesNothing("kept:death", () -> {
			this.server.kill();
			this.server.start();
		});
	}

	@Test
	void the_server_remembers_how_far_a_durable_subscription_was() throws Exception {
		Map<String, String> durable = Map.of("durable-id", "phone", "ack", "client-individual");
		Party ann = connectAs("ann");
		Inbox inbox = ann.subscribe("/topic/kept:durable", durable);
		ann.say("/topic/kept:durable", "done");
		ann.say("/topic/kept:durable", "not done");
		ann.acknowledge(inbox.next(), true);
		inbox.next();
		ann.say("/topic/a", "the ACK has been kept");
		this.server.kill();
		ann.lost();
		this.server.start();
		Party bob = connectAs("bob");
		bob.say("/topic/kept:durable", "missed");
		bob.disconnect();
		Party again = connectAs("ann");
		inbox = again.subscribe("/topic/kept:durable", durable);
		assertEquals(List.of("not done", "missed"), inbox.texts(2));
		again.disconnect();
	}

	@Test
	void a_client_is_told_when_the_server_goes() throws Exception {
		Party ann = connectAs("ann");
		this.server.terminate();
		Heard error = ann.error();
		assertEquals("shutting_down", error.header("code"));
		assertTrue(Long.parseLong(error.header("retry-after-ms")) >= 0);
		assertNotNull(ann.lost());
		this.server.start();
		connectAs("ann").disconnect();
	}

	private interface Disaster {

		void strike() throws Exception;
	}

	private void missesNothing(String channel, Disaster disaster) throws Exception {
		String topic = "/topic/" + channel;
		Party ann = connectAs("ann");
		Inbox inbox = ann.subscribe(topic);
		ann.say(topic, "first");
		Heard first = inbox.next();
		this.link.cut();
		assertNotNull(ann.lost());
		Party bob = connectAs("bob");
		for (int number = 0; number < 20; number++) {
			bob.say(topic, "missed " + number);
		}
		bob.disconnect();
		disaster.strike();
		Party back = connectAs("ann");
		inbox = back.subscribe(topic, Map.of("last-position", first.header("position")));
		assertEquals("true", inbox.told("recovered"));
		assertNull(first.header("gap"));
		assertEquals(IntStream.range(0, 20).mapToObj((number) -> "missed " + number).toList(), inbox.texts(20));
		back.say(topic, "now");
		assertEquals("now", inbox.next().text());
		back.disconnect();
	}
}
