"""A plugin of pytest: runs moto's own tests against an endpoint, and knows which of them differ, and why.

A test that `differs.toml` names must fail, and one that it does not name must pass. Answers are checked against the
service model too.
"""

import os
import tomllib

import boto3
import botocore.session
import pytest

import shapes

with open(os.path.join(os.path.dirname(__file__), "differs.toml"), "rb") as file:
    DIFFERS = {test: group for group in tomllib.load(file)["group"] for test in group["tests"]}


def pytest_collection_modifyitems(items):
    seen = set()
    for item in items:
        # Whatever the parameters: some of them may pass.
        name = f"{item.path.stem.removeprefix('test_')}::{item.originalname}"
        seen.add(name)
        group = DIFFERS.get(name)
        if group:
            strict = "[" not in item.name
            item.add_marker(pytest.mark.xfail(reason=group["why"], strict=strict, run=group.get("run", True)))
    gone = set(DIFFERS) - seen
    if gone:
        raise pytest.UsageError(f"differs.toml names tests that moto does not have: {sorted(gone)}")


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
