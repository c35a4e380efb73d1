"""Makes the bucket of the compose file, unless it is there, and lets broken uploads go after two days."""

import os
import sys

import boto3
from botocore.config import Config
from botocore.exceptions import ClientError

# Keys and region by boto3's own chain. Bounded: the supervisor starts it again.
SETTINGS = Config(
    connect_timeout=5,
    read_timeout=30,
    retries={"total_max_attempts": 5, "mode": "standard"},
    s3={"addressing_style": "path"},
)
RULES = [
    {
        "ID": "parts",
        "Status": "Enabled",
        "Filter": {"Prefix": ""},
        "AbortIncompleteMultipartUpload": {"DaysAfterInitiation": 2},
    }
]


def main() -> int:
    """Make it."""
    name = os.environ["BUCKET"]
    client = boto3.client("s3", endpoint_url=os.environ["S3_ENDPOINT"], region_name="us-east-1", config=SETTINGS)
    try:
        client.head_bucket(Bucket=name)
        sys.stdout.write(f"The bucket {name} is there.\n")
    except ClientError as error:
        if error.response["ResponseMetadata"]["HTTPStatusCode"] != 404:
            raise
        client.create_bucket(Bucket=name)
        sys.stdout.write(f"The bucket {name} is made.\n")
    try:
        client.put_bucket_lifecycle_configuration(Bucket=name, LifecycleConfiguration={"Rules": RULES})
    except ClientError as error:
        # Parts that nobody finished cost room, no more.
        sys.stdout.write(f"No rule for broken uploads: {error}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
