"""Submits a restaurant's reviews to a maitred fleet and prints the result: pip install nats-py msgpack"""
import asyncio, hashlib, os, time

import msgpack, nats
from nats.js.api import ConsumerConfig, DeliverPolicy

REVIEWS = [
    {"id": "r1", "text": "The soup was wonderful, but we waited an hour.", "rating": 4},
    {"id": "r2", "text": "Friendly staff, and the best dumplings in town.", "created_at": "2024-03-01"},
]


async def main():
    client = await nats.connect(os.environ.get("NATS_URL", "nats://127.0.0.1:4222"))
    jetstream = client.jetstream()
    epoch = int(time.time())
    job = {"v": 1, "job_id": f"example-{epoch}", "restaurant_id": "example", "epoch": epoch,
           "analyses": ["sentiment", "summary"], "reviews": REVIEWS}
    # Listen first: no result can come too early.
    config = ConsumerConfig(deliver_policy=DeliverPolicy.NEW)
    results = await jetstream.subscribe("results.analysis.example", ordered_consumer=True, config=config)
    digest = hashlib.sha256(msgpack.packb(REVIEWS)).hexdigest()
    headers = {"Content-Type": "application/msgpack", "Nats-Msg-Id": f"example:{epoch}:{digest}"}
    stored = await jetstream.publish("jobs.analysis.hi.example", msgpack.packb(job), headers=headers)
    print(f"stored as {stored.seq} of {stored.stream}, duplicate: {bool(stored.duplicate)}")
    while (result := msgpack.unpackb((await results.next_msg(timeout=300)).data))["job_id"] != job["job_id"]:
        pass
    print(f"{result['job_id']}: {result['outcome']['status']}")
    await client.close()


asyncio.run(main())
