"""The stock Centrifuge SDK for Python against a real server, in both of its encodings."""

import asyncio
import base64
import hashlib
import hmac
import json
import unittest

from centrifuge import (
    Client,
    ClientEventHandler,
    PublicationContext,
    SubscribedContext,
    SubscriptionEventHandler,
)
from centrifuge.exceptions import ReplyError

from naru import DEADLINE, Naru

SECRET = "a secret of at least thirty-two bytes"

CONFIG = f"""
[bridge]
listen = "127.0.0.1:0"
[http]
listen = "127.0.0.1:0"
[stomp]
listen = "127.0.0.1:0"
[client]
token_hmac_secret = "{SECRET}"
[channels.namespaces.chat]
history_size = 100
durability = "os"
force_recovery = true
presence = true
allow_subscribe_for_client = true
allow_publish_for_subscriber = true
allow_history_for_subscriber = true
allow_presence_for_subscriber = true
"""


class Server(Naru):
    @property
    def url(self):
        return f"ws://{self.run['http']}/connection/websocket"


def token(claims):
    def part(raw):
        return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()

    head = part(b'{"alg":"HS256","typ":"JWT"}') + "." + part(json.dumps(claims).encode())
    return head + "." + part(hmac.new(SECRET.encode(), head.encode(), hashlib.sha256).digest())


class Heard(SubscriptionEventHandler):
    def __init__(self):
        self.publications = asyncio.Queue()
        self.subscriptions = asyncio.Queue()

    async def on_subscribed(self, ctx: SubscribedContext) -> None:
        await self.subscriptions.put(ctx)

    async def on_publication(self, ctx: PublicationContext) -> None:
        await self.publications.put(ctx)


async def soon(awaitable):
    return await asyncio.wait_for(awaitable, DEADLINE)


class Clients(unittest.IsolatedAsyncioTestCase):
    @classmethod
    def setUpClass(cls):
        cls.server = Server(CONFIG)

    @classmethod
    def tearDownClass(cls):
        cls.server.stop()

    def client(self, user, use_protobuf):
        return Client(
            self.server.url,
            events=ClientEventHandler(),
            token=token({"sub": user}),
            use_protobuf=use_protobuf,
            min_reconnect_delay=0.05,
            max_reconnect_delay=0.2,
        )

    @staticmethod
    def write(value, use_protobuf):
        return json.dumps(value).encode() if use_protobuf else value

    @staticmethod
    def read(data, use_protobuf):
        return json.loads(data) if use_protobuf else data

    async def both(self, check):
        for use_protobuf in (False, True):
            with self.subTest(protobuf=use_protobuf):
                await check(use_protobuf)

    async def test_publishes_and_hears_itself_with_history_and_presence(self):
        async def check(pb):
            bo, heard = self.client("bo", pb), Heard()
            await bo.connect()
            subscription = bo.new_subscription(f"chat:a{pb}", events=heard)
            await subscription.subscribe()
            await soon(heard.subscriptions.get())
            await subscription.publish(self.write({"text": "hi"}, pb))
            publication = (await soon(heard.publications.get())).pub
            self.assertEqual(self.read(publication.data, pb), {"text": "hi"})
            self.assertEqual(publication.info.user, "bo")
            self.assertEqual(publication.offset, 1)
            history = await subscription.history(limit=10)
            self.assertEqual([each.offset for each in history.publications], [1])
            presence = await subscription.presence()
            self.assertEqual([each.user for each in presence.clients.values()], ["bo"])
            stats = await subscription.presence_stats()
            self.assertEqual((stats.num_clients, stats.num_users), (1, 1))
            await bo.disconnect()

        await self.both(check)

    async def test_recovers_what_was_published_during_a_cut(self):
        async def check(pb):
            bo, al, heard = self.client("bo", pb), self.client("al", pb), Heard()
            await bo.connect()
            await al.connect()
            reader = bo.new_subscription(f"chat:cut{pb}", events=heard)
            writer_heard = Heard()
            writer = al.new_subscription(f"chat:cut{pb}", events=writer_heard)
            await reader.subscribe()
            await writer.subscribe()
            await soon(heard.subscriptions.get())
            await soon(writer_heard.subscriptions.get())
            await writer.publish(self.write(1, pb))
            await soon(heard.publications.get())
            await bo.disconnect()
            for number in range(2, 12):
                await writer.publish(self.write(number, pb))
            await bo.connect()
            again = await soon(heard.subscriptions.get())
            self.assertTrue(again.recovered)
            got = [self.read((await soon(heard.publications.get())).pub.data, pb) for _ in range(10)]
            self.assertEqual(got, list(range(2, 12)))
            await bo.disconnect()
            await al.disconnect()

        await self.both(check)

    async def test_refusals_have_code_and_message(self):
        async def check(pb):
            bo = self.client("bo", pb)
            await bo.connect()
            await soon(bo.ready())
            with self.assertRaises(ReplyError) as refused:
                await bo.rpc("anything", self.write(1, pb))
            self.assertEqual(refused.exception.code, 108)
            self.assertTrue(refused.exception.message)
            await bo.disconnect()

        await self.both(check)


if __name__ == "__main__":
    unittest.main()
