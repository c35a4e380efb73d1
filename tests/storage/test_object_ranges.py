"""Parts of an object are of one state of it."""

from __future__ import annotations

import pytest
from buckets import s3_bucket, s3_client

from pixelmill.errors import StorageUnavailable
from pixelmill.storage.ranges import ObjectRanges
from servers import Moto


def test_an_object_that_was_replaced_is_not_read_on(moto_server: Moto) -> None:
    bucket = s3_bucket(moto_server, prefix="")
    name = bucket.uri.removeprefix("s3://").strip("/")
    client = s3_client(moto_server)
    client.put_object(Bucket=name, Key="a.tif", Body=b"0123456789")
    ranges = ObjectRanges(bucket.uri, bucket.options, "a.tif")
    assert ranges.size == 10
    assert ranges.read(2, 3) == b"234"
    assert ranges.read(8, 100) == b"89"
    client.put_object(Bucket=name, Key="a.tif", Body=b"abcdefghij")
    with pytest.raises(StorageUnavailable, match="replaced"):
        ranges.read(2, 3)
    again = ObjectRanges(bucket.uri, bucket.options, "a.tif")
    assert again.read(2, 3) == b"cde"
    assert again.version != ranges.version
