"""A plugin of pytest: runs moto's own tests against an endpoint, and knows which of them differ, and why.

A test that is named in `differs.toml` must fail; one that is not must pass. Every answer is checked against the
service model as well, but its faults are only those of tests that pass.
"""

import os
import tomllib

import boto3
import botocore.session
import pytest

import shapes

with open(os.path.join(os.path.dirname(__file__), "differs.toml"), "rb") as file:
    DIFFERS = {test: group["why"] for group in tomllib.load(file)["group"] for test in group["tests"]}


def pytest_collection_modifyitems(items):
    unknown = set(DIFFERS) - {item.originalname for item in items} - {item.name for item in items}
    if unknown and not os.environ.get("MOTO_SELECTION"):
        raise pytest.UsageError(f"differs.toml names tests that moto does not have: {sorted(unknown)}")
    for item in items:
        why = DIFFERS.get(item.name) or DIFFERS.get(item.originalname)
        if why:
            item.add_marker(pytest.mark.xfail(reason=why, strict=True))


@pytest.fixture(scope="session", autouse=True)
def watching():
    session = botocore.session.get_session()
    watching = shapes.watch(session)
    boto3.setup_default_session(botocore_session=session)
    return watching


@pytest.fixture(autouse=True)
def answers_have_the_shapes_of_the_model(watching):
    yield
    faults, watching.faults[:] = list(watching.faults), []
    assert not faults, "\n".join(dict.fromkeys(faults))
