// The peer of the chat load: Centrifugo's own library behind as little as it needs. Everybody may
// connect, subscribe and publish. Channels that begin with "bench:" keep 100 publications for five
// minutes and recover; all others keep nothing. Its options are those of a tuned Centrifugo: pooled
// write buffers and small read buffers.
package main

import (
	"context"
	"flag"
	"log"
	"net"
	"net/http"
	"os"
	"strings"
	"time"

	"github.com/centrifugal/centrifuge"
)

const (
	historySize = 100
	historyTTL  = 5 * time.Minute
)

func remembers(channel string) bool {
	return strings.HasPrefix(channel, "bench:")
}

func main() {
	listen := flag.String("listen", "127.0.0.1:8100", "address")
	flag.Parse()
	node, err := centrifuge.New(centrifuge.Config{
		LogLevel:   centrifuge.LogLevelError,
		LogHandler: func(entry centrifuge.LogEntry) { log.Println(entry.Message, entry.Fields) },
	})
	if err != nil {
		log.Fatal(err)
	}
	node.OnConnecting(func(context.Context, centrifuge.ConnectEvent) (centrifuge.ConnectReply, error) {
		return centrifuge.ConnectReply{Credentials: &centrifuge.Credentials{}}, nil
	})
	node.OnConnect(func(client *centrifuge.Client) {
		client.OnSubscribe(func(event centrifuge.SubscribeEvent, done centrifuge.SubscribeCallback) {
			done(centrifuge.SubscribeReply{Options: centrifuge.SubscribeOptions{
				EnableRecovery:    remembers(event.Channel),
				EnablePositioning: remembers(event.Channel),
			}}, nil)
		})
		client.OnPublish(func(event centrifuge.PublishEvent, done centrifuge.PublishCallback) {
			if !remembers(event.Channel) {
				done(centrifuge.PublishReply{}, nil)
				return
			}
			result, err := node.Publish(event.Channel, event.Data, centrifuge.WithHistory(historySize, historyTTL))
			done(centrifuge.PublishReply{Result: &result}, err)
		})
	})
	if err := node.Run(); err != nil {
		log.Fatal(err)
	}
	http.Handle("/connection/websocket", centrifuge.NewWebsocketHandler(node, centrifuge.WebsocketConfig{
		ReadBufferSize:     1024,
		UseWriteBufferPool: true,
		CheckOrigin:        func(*http.Request) bool { return true },
	}))
	listener, err := net.Listen("tcp", *listen)
	if err != nil {
		log.Fatal(err)
	}
	log.Printf("centrifuge listens on %s, pid %d", listener.Addr(), os.Getpid())
	log.Fatal(http.Serve(listener, nil))
}
