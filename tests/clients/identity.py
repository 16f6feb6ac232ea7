"""identity.py URL KEY SECRET CERTIFICATE: prints the account, over TLS."""

import sys

import botocore.session

url, key, secret, certificate = sys.argv[1:]
session = botocore.session.Session()
session.set_credentials(key, secret)
sts = session.create_client("sts", region_name="us-east-1", endpoint_url=url, verify=certificate)
print(sts.get_caller_identity()["Account"])
