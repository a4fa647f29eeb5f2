// The way between a client and the server, which can be cut, go dead, and lead to a server that was restarted on
// another port.

package naru;

import java.io.IOException;
import java.io.InputStream;
import java.io.OutputStream;
import java.net.InetAddress;
import java.net.InetSocketAddress;
import java.net.ServerSocket;
import java.net.Socket;
import java.util.Set;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.TimeUnit;
import java.util.function.Supplier;

final class Link implements AutoCloseable {

	private final ServerSocket listener;
	private final Supplier<InetSocketAddress> target;
	private final Set<Socket> sockets = ConcurrentHashMap.newKeySet();
	private boolean isDead;
	private long burstsToServer;
	private long burstsToClient;
	private long endsOfServer;

	Link(Supplier<InetSocketAddress> target) throws IOException {
		this.target = target;
		this.listener = new ServerSocket(0, 50, InetAddress.getLoopbackAddress());
		start(this::accept);
	}

	int port() {
		return this.listener.getLocalPort();
	}

	/** Ends all connections without a word. */
	void cut() {
		for (Socket socket : this.sockets) {
			reset(socket);
		}
	}

	/** From now on nothing passes any more, and nobody is told. */
	synchronized void die() {
		this.isDead = true;
	}

	/** Waits until so many pieces of data have passed in each direction from now on. */
	synchronized void awaitBursts(int count) throws InterruptedException {
		long toServer = this.burstsToServer + count;
		long toClient = this.burstsToClient + count;
		await(() -> this.burstsToServer >= toServer && this.burstsToClient >= toClient);
	}

	/** Waits until the server has ended a connection. */
	synchronized void awaitEndOfServer() throws InterruptedException {
		await(() -> this.endsOfServer > 0);
	}

	private void await(Supplier<Boolean> ready) throws InterruptedException {
		long deadline = System.nanoTime() + TimeUnit.SECONDS.toNanos(NaruServer.DEADLINE_SECONDS);
		while (!ready.get()) {
			long left = TimeUnit.NANOSECONDS.toMillis(deadline - System.nanoTime());
			if (left <= 0) {
				throw new AssertionError("in vain: " + this.burstsToServer + " to the server, " + this.burstsToClient
						+ " to the client, " + this.endsOfServer + " ended");
			}
			wait(left);
		}
	}

	private void accept() {
		while (!this.listener.isClosed()) {
			try {
				Socket client = this.listener.accept();
				this.sockets.add(client);
				InetSocketAddress to = this.target.get();
				Socket server = new Socket(to.getAddress(), to.getPort());
				this.sockets.add(server);
				start(() -> pass(client, server, true));
				start(() -> pass(server, client, false));
			}
			catch (IOException refused) {
				// The server is down: whoever called hears so.
				cut();
			}
		}
	}

	private void pass(Socket from, Socket to, boolean toServer) {
		byte[] buffer = new byte[64 * 1024];
		try {
			InputStream in = from.getInputStream();
			OutputStream out = to.getOutputStream();
			for (int count = in.read(buffer); count >= 0; count = in.read(buffer)) {
				if (passes(toServer)) {
					out.write(buffer, 0, count);
				}
			}
			to.shutdownOutput();
		}
		catch (IOException over) {
			reset(to);
		}
		finally {
			this.sockets.remove(from);
			if (!toServer) {
				synchronized (this) {
					this.endsOfServer++;
					notifyAll();
				}
			}
		}
	}

	private synchronized boolean passes(boolean toServer) {
		if (!this.isDead) {
			if (toServer) {
				this.burstsToServer++;
			}
			else {
				this.burstsToClient++;
			}
			notifyAll();
		}
		return !this.isDead;
	}

	@Override
	public void close() throws IOException {
		this.listener.close();
		cut();
	}

	private static void reset(Socket socket) {
		try {
			socket.setSoLinger(true, 0);
			socket.close();
		}
		catch (IOException gone) {
			// Then it needs no end any more.
		}
	}

	private static void start(Runnable work) {
		Thread thread = new Thread(work, "link");
		thread.setDaemon(true);
		thread.start();
	}
}
