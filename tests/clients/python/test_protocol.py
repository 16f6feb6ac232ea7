"""Requests that no client library makes: unknown actions and parameters, GET, wrong signatures."""

import datetime
import os
import urllib.error
import urllib.parse
import urllib.request
import xml.etree.ElementTree as ElementTree

import botocore.auth
import botocore.awsrequest
import botocore.credentials
import pytest
from conftest import endpoint, refused

import shapes

KEY = botocore.credentials.Credentials(os.environ["AWS_ACCESS_KEY_ID"], os.environ["AWS_SECRET_ACCESS_KEY"])
REGION = os.environ["AWS_REGION"]


def send(url, body=None, headers=None):
    """Status and body, whatever the status."""
    request = urllib.request.Request(url, data=body, headers=headers or {})
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


def signed(parameters, method="POST", key=KEY, region=REGION, service="ec2", at=None, change=lambda request: None, query=False):
    parameters = {"Version": "2016-11-15", **parameters}
    encoded = urllib.parse.urlencode(parameters)
    url = endpoint() + "/"
    if method == "POST":
        headers = {"Content-Type": "application/x-www-form-urlencoded; charset=utf-8"}
        request = botocore.awsrequest.AWSRequest(method, url, headers=headers, data=encoded)
    else:
        request = botocore.awsrequest.AWSRequest(method, url + "?" + encoded)
    signer = (botocore.auth.SigV4QueryAuth if query else botocore.auth.SigV4Auth)(key, service, region)
    # The signer reads the clock of its module.
    real = botocore.auth.get_current_datetime
    if at is not None:
        botocore.auth.get_current_datetime = lambda remove_tzinfo=True: at
    try:
        signer.add_auth(request)
    finally:
        botocore.auth.get_current_datetime = real
    change(request)
    prepared = request.prepare()
    body = prepared.body
    if isinstance(body, str):
        body = body.encode()
    return prepared.url, body, dict(prepared.headers.items())


def code(answer):
    status, body = answer
    found, faults = shapes.failure(ElementTree.fromstring(body), status)
    assert not faults, (faults, body)
    return status, found


def test_get_and_post_are_the_same(ec2):
    for method in ["GET", "POST"]:
        status, body = send(*signed({"Action": "DescribeVpcs"}, method=method))
        assert status == 200 and "<DescribeVpcsResponse" in body


def test_a_presigned_url_works():
    status, body = send(*signed({"Action": "DescribeVpcs"}, method="GET", query=True))
    assert status == 200 and "<DescribeVpcsResponse" in body


def test_what_does_not_exist_is_named(ec2):
    assert code(send(*signed({"Action": "RunInstances"}))) == (400, "InvalidAction")
    assert code(send(*signed({"Action": "describeVpcs"}))) == (400, "InvalidAction")
    assert code(send(*signed({"Action": ""})))[1] in ("MissingAction", "InvalidAction")
    assert code(send(*signed({})))[1] in ("MissingAction", "InvalidAction")
    refused("InvalidAction", ec2.describe_key_pairs)
    status, body = send(*signed({"Action": "DescribeSecurityGroups", "Colour": "red"}))
    assert code((status, body)) == (400, "UnknownParameter")
    assert "The parameter Colour is not recognized" in body
    # Egress of a group is asked for by its id only.
    unknown = {"Action": "AuthorizeSecurityGroupEgress", "GroupName": "x", "GroupId": "sg-0123456789abcdef0"}
    rule = {"IpPermissions.1.IpProtocol": "-1", "IpPermissions.1.IpRanges.1.CidrIp": "0.0.0.0/0"}
    status, body = send(*signed({**unknown, **rule}))
    assert code((status, body)) == (400, "UnknownParameter")
    assert "The parameter GroupName is not recognized" in body


def test_only_a_right_signature_is_accepted():
    act = {"Action": "DescribeVpcs"}
    wrong = botocore.credentials.Credentials(KEY.access_key, KEY.secret_key + "x")
    unknown = botocore.credentials.Credentials("AKIAIOSFODNN7EXAMPLE", KEY.secret_key)
    assert code(send(*signed(act, key=wrong))) in [(401, "AuthFailure"), (403, "SignatureDoesNotMatch")]
    assert code(send(*signed(act, key=unknown))) in [(401, "AuthFailure"), (403, "InvalidClientTokenId")]
    url, body, headers = signed(act)
    del headers["Content-Length"]
    assert code(send(url, body + b"&MaxResults=5", headers)) in [(401, "AuthFailure"), (403, "SignatureDoesNotMatch")]
    assert code(send(url + "?Action=DeleteVpc", body, headers))[0] in (400, 401, 403)
    unsigned = {"Content-Type": "application/x-www-form-urlencoded"}
    assert code(send(endpoint() + "/", b"Action=DescribeVpcs&Version=2016-11-15", unsigned))[0] in (401, 403)


@pytest.mark.parametrize("minutes", [-20, 20, -6, 6])
def test_a_clock_that_differs_by_more_than_five_minutes_is_refused(minutes):
    at = datetime.datetime.now(datetime.timezone.utc).replace(tzinfo=None) + datetime.timedelta(minutes=minutes)
    status, found = code(send(*signed({"Action": "DescribeVpcs"}, at=at)))
    assert found in ("RequestExpired", "AuthFailure", "SignatureDoesNotMatch"), (status, found)


def test_a_request_that_changes_something_is_accepted_once():
    request = signed({"Action": "CreateSecurityGroup", "GroupName": "replayed", "GroupDescription": "x"})
    status, _ = send(*request)
    assert status == 200
    # It is the request that is refused, not a second group of the same name.
    assert code(send(*request)) == (503, "RequestLimitExceeded")
    status, _ = send(*signed({"Action": "DeleteSecurityGroup", "GroupName": "replayed"}))
    assert status == 200


def test_a_body_that_is_too_large_is_refused():
    url, _, headers = signed({"Action": "DescribeVpcs"})
    headers.pop("Content-Length", None)
    try:
        status, _ = send(url, b"Action=DescribeVpcs&x=" + b"y" * (64 << 20), headers)
    except (urllib.error.URLError, ConnectionError):
        return
    assert status >= 400
