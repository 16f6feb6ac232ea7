"""signatures.py URL KEY SECRET: sends requests that botocore signs in each of its forms, and changed ones."""

import datetime
import http.client
import sys
import urllib.parse

from botocore.auth import SigV4Auth, SigV4QueryAuth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

URL, KEY, SECRET = sys.argv[1:]
FORM = "application/x-www-form-urlencoded; charset=utf-8"
ODD = ["plain", "a b+c", "100%", "a/b?c=d&e#f", "~*'()!", "ü€𝄞", "\u1234 \t\n", "-._~", "", "a\\b\"c"]
READING = {"Action": "GetCallerIdentity", "Version": "2011-06-15"}


def send(prepared):
    """The status and the body of the answer to a prepared request."""
    parts = urllib.parse.urlsplit(prepared.url)
    connection = http.client.HTTPConnection(parts.hostname, parts.port, timeout=20)
    target = parts.path or "/"
    if parts.query:
        target += "?" + parts.query
    headers = {
        name: value.decode() if isinstance(value, bytes) else value
        for name, value in prepared.headers.items()
    }
    connection.request(prepared.method, target, body=prepared.body, headers=headers)
    answer = connection.getresponse()
    result = answer.status, answer.read().decode()
    connection.close()
    return result


def request(method, parameters, in_query, headers=()):
    """A request with parameters in the query or in a form."""
    made = AWSRequest(method=method, url=URL + "/", headers=dict(headers))
    if in_query:
        made.params = parameters
    else:
        made.data = parameters
        made.headers["Content-Type"] = FORM
    return made


def signer(kind, service="sts", secret=SECRET):
    return kind(Credentials(KEY, secret), service, "eu-central-1")


def check(name, prepared, status):
    found, body = send(prepared)
    if found != status:
        sys.exit(f"{name}: {found} in place of {status}: {prepared.method} {prepared.url}\n{body}")


def signed(made, kind, **options):
    signer(kind, **options).add_auth(made)
    return made.prepare()


# Every form that a client may choose, with characters that are encoded in more than one way. A parameter that
# nobody reads is refused after the signature is verified: 400 in place of 401 or 403.
for kind in (SigV4Auth, SigV4QueryAuth):
    for method, in_query in (("GET", True), ("POST", False), ("POST", True)):
        name = f"{kind.__name__} {method} {'query' if in_query else 'form'}"
        check(name, signed(request(method, dict(READING), in_query), kind), 200)
        for odd in ODD:
            parameters = dict(READING, Odd=odd)
            prepared = signed(request(method, parameters, in_query), kind)
            check(f"{name} {odd!r}", prepared, 400)
            assert "UnknownParameter" in send(prepared)[1]

# More headers, with spaces and an encoded user agent.
headers = {"X-Amz-Target": "a   b  c", "User-Agent": "Boto3/1.0  md/x#y", "X-Other": " \"a  b\" "}
check("headers", signed(request("POST", dict(READING), False, headers), SigV4Auth), 200)

# What was changed after it was signed, and other keys.
for kind in (SigV4Auth, SigV4QueryAuth):
    prepared = signed(request("GET", dict(READING, Odd="1"), True), kind)
    prepared.url = prepared.url.replace("Odd=1", "Odd=2")
    check(f"{kind.__name__} changed", prepared, 403)
    check(f"{kind.__name__} key", signed(request("GET", dict(READING), True), kind, secret="x"), 403)
prepared = signed(request("POST", dict(READING), False), SigV4Auth)
prepared.body = prepared.body + b"&A=1" if isinstance(prepared.body, bytes) else prepared.body + "&A=1"
prepared.headers["Content-Length"] = str(len(prepared.body))
check("another body", prepared, 403)
check("another service", signed(request("POST", dict(READING), False), SigV4Auth, service="ec2"), 400)

# A presigned URL ends.
presigned = SigV4QueryAuth(Credentials(KEY, SECRET), "sts", "eu-central-1", expires=1)
made = request("GET", dict(READING), True)
presigned.add_auth(made)
prepared = made.prepare()
check("presigned", prepared, 200)
while "RequestExpired" not in send(prepared)[1]:
    signed_at = urllib.parse.parse_qs(urllib.parse.urlsplit(prepared.url).query)["X-Amz-Date"][0]
    signed_at = datetime.datetime.strptime(signed_at, "%Y%m%dT%H%M%SZ").replace(tzinfo=datetime.timezone.utc)
    age = datetime.datetime.now(datetime.timezone.utc) - signed_at
    if age > datetime.timedelta(seconds=10):
        sys.exit("a presigned URL of one second is valid after ten")

print("done")
