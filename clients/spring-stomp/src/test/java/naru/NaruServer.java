// A real `naru serve` on free ports in a temporary folder. NARU_BIN names the binary.

package naru;

import java.io.BufferedReader;
import java.io.File;
import java.io.IOException;
import java.io.UncheckedIOException;
import java.net.InetSocketAddress;
import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Base64;
import java.util.Comparator;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.TimeUnit;
import java.util.regex.Matcher;
import java.util.regex.Pattern;
import javax.crypto.Mac;
import javax.crypto.spec.SecretKeySpec;

final class NaruServer implements AutoCloseable {

	/** Nothing here takes so long unless it never happens. */
	static final long DEADLINE_SECONDS = 60;
	static final String PASSCODE = "correct horse";

	private static final String TOKEN_SECRET = "a secret of at least thirty-two bytes";
	private static final String API_KEY = "a key for the checks";
	private static final String CONFIG = """
			[bridge]
			listen = "127.0.0.1:0"
			[http]
			listen = "127.0.0.1:0"
			api_keys = ["%s"]
			[stomp]
			listen = "127.0.0.1:0"
			heartbeat = "1s"
			[client]
			token_hmac_secret = "%s"
			[[users]]
			name = "ann"
			password = "%3$s"
			role = "viewer"
			[[users]]
			name = "spring"
			password = "%3$s"
			role = "viewer"
			[[users]]
			name = "bob"
			password = "%3$s"
			role = "viewer"
			[channels.default]
			allow_subscribe_for_client = true
			allow_publish_for_client = true
			[channels.namespaces.queue]
			allow_subscribe_for_client = true
			allow_publish_for_client = true
			[channels.namespaces.user]
			history_size = 100
			history_ttl = "10m"
			allow_user_limited_channels = true
			allow_publish_for_client = true
			[channels.namespaces.kept]
			history_size = 1000
			durability = "disk"
			force_recovery = true
			allow_subscribe_for_client = true
			allow_publish_for_client = true
			""".formatted(API_KEY, TOKEN_SECRET, PASSCODE);

	private final Path folder;
	private Process process;
	private volatile InetSocketAddress http;
	private volatile InetSocketAddress stomp;

	NaruServer() throws IOException {
		this.folder = Files.createTempDirectory("naru-");
		Files.writeString(this.folder.resolve("naru.toml"), CONFIG);
		start();
	}

	InetSocketAddress http() {
		return this.http;
	}

	InetSocketAddress stomp() {
		return this.stomp;
	}

	void start() throws IOException {
		Path data = this.folder.resolve("data");
		String binary = System.getenv("NARU_BIN");
		if (binary == null) {
			throw new IllegalStateException("NARU_BIN does not name the server's binary");
		}
		ProcessBuilder builder = new ProcessBuilder(binary, "serve",
				"--config", this.folder.resolve("naru.toml").toString(), "--data-dir", data.toString());
		File errors = this.folder.resolve("errors").toFile();
		this.process = builder.redirectError(ProcessBuilder.Redirect.appendTo(errors)).start();
		// It says so when everything listens; where, it has written down before.
		BufferedReader said = this.process.inputReader();
		Process started = this.process;
		CompletableFuture<Void> watchdog = new CompletableFuture<Void>()
				.orTimeout(DEADLINE_SECONDS, TimeUnit.SECONDS)
				.whenComplete((done, late) -> {
					if (late != null) {
						started.destroyForcibly();
					}
				});
		String first = said.readLine();
		watchdog.complete(null);
		if (first == null || !first.contains("is up")) {
			throw new IllegalStateException("the server did not come up: " + Files.readString(errors.toPath()));
		}
		String run = Files.readString(data.resolve("run.json"));
		this.http = address(run, "http");
		this.stomp = address(run, "stomp");
	}

	/** Asks it to go, and waits until it has gone. */
	void terminate() throws Exception {
		this.process.destroy();
		awaitEnd();
	}

	/** kill -9. */
	void kill() throws Exception {
		this.process.destroyForcibly();
		awaitEnd();
	}

	private void awaitEnd() throws Exception {
		if (!this.process.waitFor(DEADLINE_SECONDS, TimeUnit.SECONDS)) {
			throw new IllegalStateException("the server does not end");
		}
		this.process.inputReader().close();
	}

	/** Publishes as a back end does. */
	void publish(String channel, String jsonData) throws Exception {
		String body = "{\"channel\": \"" + channel + "\", \"data\": " + jsonData + "}";
		URI uri = URI.create("http://127.0.0.1:" + this.http.getPort() + "/api/publish");
		HttpRequest request = HttpRequest.newBuilder(uri)
				.header("X-API-Key", API_KEY)
				.header("Content-Type", "application/json")
				.POST(HttpRequest.BodyPublishers.ofString(body))
				.build();
		HttpResponse<String> response = HttpClient.newHttpClient().send(request, HttpResponse.BodyHandlers.ofString());
		if (response.statusCode() != 200 || response.body().contains("\"error\"")) {
			throw new IllegalStateException(response.statusCode() + " " + response.body());
		}
	}

	/** A token as the application's login would hand out. */
	static String token(String user) throws Exception {
		Base64.Encoder base64 = Base64.getUrlEncoder().withoutPadding();
		String head = base64.encodeToString("{\"alg\":\"HS256\",\"typ\":\"JWT\"}".getBytes(StandardCharsets.UTF_8));
		String claims = base64.encodeToString(("{\"sub\":\"" + user + "\"}").getBytes(StandardCharsets.UTF_8));
		Mac mac = Mac.getInstance("HmacSHA256");
		mac.init(new SecretKeySpec(TOKEN_SECRET.getBytes(StandardCharsets.UTF_8), "HmacSHA256"));
		byte[] signature = mac.doFinal((head + "." + claims).getBytes(StandardCharsets.US_ASCII));
		return head + "." + claims + "." + base64.encodeToString(signature);
	}

	@Override
	public void close() throws Exception {
		kill();
		try (var files = Files.walk(this.folder)) {
			files.sorted(Comparator.reverseOrder()).forEach(NaruServer::delete);
		}
	}

	private static void delete(Path path) {
		try {
			Files.delete(path);
		}
		catch (IOException error) {
			throw new UncheckedIOException(error);
		}
	}

	private static InetSocketAddress address(String run, String listener) {
		Matcher found = Pattern.compile("\"" + listener + "\"\\s*:\\s*\"([^\"]+):(\\d+)\"").matcher(run);
		if (!found.find()) {
			throw new IllegalStateException("run.json does not say where " + listener + " listens: " + run);
		}
		return new InetSocketAddress(found.group(1), Integer.parseInt(found.group(2)));
	}
}
