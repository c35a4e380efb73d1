"""The servers that other tests lean on: they come up, and keep what they were given through a kill."""

from __future__ import annotations

from pathlib import Path

import boto3
import psycopg
from azure.storage.queue import QueueServiceClient
from redis import Redis as RedisClient

from servers import Azurite, Moto, Postgres, RabbitMQ, Redis, accepts


def test_redis_keeps_what_it_acknowledged_through_a_kill(tmp_path: Path, redis_server: Redis) -> None:
    assert RedisClient.from_url(redis_server.url).ping()
    server = Redis(tmp_path / "redis").start()
    try:
        RedisClient.from_url(server.url).set("key", "value")
        server.kill()
        assert not accepts(server.port)
        server.start()
        assert RedisClient.from_url(server.url).get("key") == b"value"
    finally:
        server.close()
    assert not accepts(server.port)


def test_postgres_keeps_what_it_committed_through_a_kill(postgres_server: Postgres, postgres_url: str) -> None:
    url = postgres_url.replace("+psycopg", "")
    with psycopg.connect(url) as connection:
        connection.execute("CREATE TABLE kept (value int)")
        connection.execute("INSERT INTO kept VALUES (7)")
    postgres_server.kill()
    postgres_server.start()
    with psycopg.connect(url) as connection:
        assert connection.execute("SELECT value FROM kept").fetchall() == [(7,)]


def test_every_test_of_rabbitmq_has_a_virtual_host_of_its_own(rabbitmq_server: RabbitMQ, rabbitmq_url: str) -> None:
    name = rabbitmq_url.rpartition("/")[2]
    assert name in rabbitmq_server.control("list_vhosts").split()
    seen = [rabbitmq_url]
    for _ in range(10):
        with rabbitmq_server.virtual_host() as other:
            assert other not in seen
            seen.append(other)
    assert seen[1].rpartition("/")[2] not in rabbitmq_server.control("list_vhosts").split()


def test_moto_serves_buckets(moto_server: Moto) -> None:
    client = boto3.client(
        "s3",
        endpoint_url=moto_server.url,
        region_name="us-east-1",
        aws_access_key_id="key",
        aws_secret_access_key="secret",
    )
    client.create_bucket(Bucket="servers-test")
    client.put_object(Bucket="servers-test", Key="a b/ü", Body=b"bytes")
    assert client.get_object(Bucket="servers-test", Key="a b/ü")["Body"].read() == b"bytes"


def test_azurite_serves_queues(azurite_server: Azurite) -> None:
    with QueueServiceClient.from_connection_string(azurite_server.connection_string) as service:
        queue = service.create_queue("servers-test")
        queue.send_message("text")
        assert [message.content for message in queue.receive_messages()] == ["text"]
        queue.delete_queue()


def test_a_server_that_is_missing_says_so() -> None:
    class Missing(Redis):
        program = "surely-not-installed"

    assert Missing.missing() == "surely-not-installed is not installed"
