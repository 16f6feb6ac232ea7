"""Random calls about two groups and a prefix list, then what they leave: SEED CALLS.

The first group is that of an attached interface. After each call the answer must be the one that a plain model of
the rules expects, and at the end `describe-security-groups`, `describe-security-group-rules` and the export of the
store must say what the model says. Prints which ports of the first group are open to the client's addresses, for the
caller to try: a JSON object {"tcp": {"10.77.0.2": [ports]}}.
"""

import ipaddress
import json
import os
import random
import subprocess
import sys

import boto3
import botocore.session
from botocore.config import Config
from botocore.exceptions import ClientError

import shapes

PORTS = range(8001, 8009)
CLIENTS = ["10.77.0.2", "fd77::2"]
NETWORKS = ["10.77.0.0/24", "10.77.0.2/32", "10.78.0.0/16", "0.0.0.0/0", "fd77::/64", "fd77::2/128", "fd78::/16", "::/0"]


class Model:
    """Rules as tuples: group, is egress, protocol, first and last port, kind of peer, peer."""

    def __init__(self, groups, listed):
        self.groups, self.listed = groups, listed
        self.rules = {(group, True, "-1", -1, -1, "CidrIpv4", "0.0.0.0/0") for group in groups}
        self.entries = []
        self.version = 1

    def open_ports(self, client):
        address = ipaddress.ip_address(client)
        opened = set()
        for group, egress, protocol, first, last, kind, peer in self.rules:
            if group != self.groups[0] or egress:
                continue
            networks = {"PrefixListId": self.entries, "ReferencedGroupId": []}.get(kind, [peer])
            if any(address in ipaddress.ip_network(network) for network in networks):
                opened |= {port for port in PORTS if protocol == "-1" or protocol == "tcp" and first <= port <= last}
        return sorted(opened)


def permission(rule):
    _, _, protocol, first, last, kind, peer = rule
    peers = {
        "CidrIpv4": {"IpRanges": [{"CidrIp": peer}]},
        "CidrIpv6": {"Ipv6Ranges": [{"CidrIpv6": peer}]},
        "PrefixListId": {"PrefixListIds": [{"PrefixListId": peer}]},
        "ReferencedGroupId": {"UserIdGroupPairs": [{"GroupId": peer}]},
    }[kind]
    ports = {} if protocol == "-1" else {"FromPort": first, "ToPort": last}
    return {"IpProtocol": protocol, **ports, **peers}


class Sequence:
    def __init__(self, seed, ec2, interface):
        self.random = random.Random(seed)
        self.ec2 = ec2
        self.ids = {}
        groups = [ec2.create_security_group(GroupName=f"g{one}", Description="x")["GroupId"] for one in range(2)]
        listed = ec2.create_managed_prefix_list(PrefixListName="l", AddressFamily="IPv4", MaxEntries=4)
        self.model = Model(groups, listed["PrefixList"]["PrefixListId"])
        ec2.modify_network_interface_attribute(NetworkInterfaceId=interface, Groups=groups[:1])
        self.read_ids()

    def read_ids(self):
        """The ids of rules, by rule; also what `describe-security-group-rules` says."""
        answer = self.ec2.describe_security_group_rules(Filters=[{"Name": "group-id", "Values": self.model.groups}])
        self.ids = {}
        for rule in answer["SecurityGroupRules"]:
            kind = next(kind for kind in ["CidrIpv4", "CidrIpv6", "PrefixListId", "ReferencedGroupInfo"] if kind in rule)
            peer = rule[kind]
            if kind == "ReferencedGroupInfo":
                kind, peer = "ReferencedGroupId", peer["GroupId"]
            key = (rule["GroupId"], rule["IsEgress"], rule["IpProtocol"], rule["FromPort"], rule["ToPort"], kind, peer)
            assert key not in self.ids, f"twice: {key}"
            self.ids[key] = rule["SecurityGroupRuleId"]
        assert set(self.ids) == self.model.rules, (set(self.ids) ^ self.model.rules)

    def new_rule(self):
        choose = self.random.choice
        group, egress, protocol = choose(self.model.groups), self.random.random() < 0.25, choose(["tcp", "tcp", "tcp", "udp", "-1"])
        first, last = sorted([choose(PORTS), choose(PORTS)]) if protocol != "-1" else (-1, -1)
        if self.random.random() < 0.3:
            kind, peer = choose([("PrefixListId", self.model.listed), ("ReferencedGroupId", choose(self.model.groups))])
        else:
            peer = choose(NETWORKS)
            kind = "CidrIpv6" if ":" in peer else "CidrIpv4"
        return (group, egress, protocol, first, last, kind, peer)

    def step(self):
        kind = self.random.choices(
            [self.authorize, self.revoke, self.revoke_by_id, self.modify, self.entries], [5, 2, 2, 2, 2]
        )[0]
        kind()

    def call(self, action, expected, **arguments):
        """Calls an action that must succeed, or be refused with one of some codes."""
        try:
            getattr(self.ec2, action)(**arguments)
            code = None
        except ClientError as error:
            code = error.response["Error"]["Code"]
        assert code in expected, f"{action} {arguments}: {code} in place of {expected}"
        return code is None

    def authorize(self):
        # Several at once, of which one may exist: then none is added.
        one = self.new_rule()
        rules = {one} | {(*one[:2], *self.new_rule()[2:]) for _ in range(self.random.randrange(3))}
        action = "authorize_security_group_egress" if one[1] else "authorize_security_group_ingress"
        known = rules & self.model.rules
        expected = ["InvalidPermission.Duplicate"] if known else [None]
        if self.call(action, expected, GroupId=one[0], IpPermissions=[permission(rule) for rule in sorted(rules)]):
            self.model.rules |= rules

    def revoke(self):
        one = self.random.choice(sorted(self.model.rules)) if self.model.rules and self.random.random() < 0.7 else self.new_rule()
        action = "revoke_security_group_egress" if one[1] else "revoke_security_group_ingress"
        # Of the default VPC EC2 names what it does not find, and this endpoint may refuse it.
        expected = [None] if one in self.model.rules else ["InvalidPermission.NotFound"]
        if self.call(action, expected, GroupId=one[0], IpPermissions=[permission(one)]):
            self.model.rules.discard(one)

    def revoke_by_id(self):
        if not self.model.rules:
            return
        self.read_ids()
        one = self.random.choice(sorted(self.model.rules))
        action = "revoke_security_group_egress" if one[1] else "revoke_security_group_ingress"
        self.call(action, [None], GroupId=one[0], SecurityGroupRuleIds=[self.ids[one]])
        self.model.rules.discard(one)

    def modify(self):
        if not self.model.rules:
            return
        self.read_ids()
        old, new = self.random.choice(sorted(self.model.rules)), self.new_rule()
        if old[5] != new[5]:
            return
        new = (*old[:2], *new[2:])
        ports = {} if new[2] == "-1" else {"FromPort": new[3], "ToPort": new[4]}
        rule = {"IpProtocol": new[2], **ports, new[5]: new[6]}
        expected = [None] if new == old or new not in self.model.rules else ["InvalidPermission.Duplicate"]
        change = [{"SecurityGroupRuleId": self.ids[old], "SecurityGroupRule": rule}]
        if self.call("modify_security_group_rules", expected, GroupId=old[0], SecurityGroupRules=change):
            self.model.rules = self.model.rules - {old} | {new}

    def entries(self):
        model = self.model
        if model.entries and self.random.random() < 0.5:
            gone = self.random.choice(model.entries)
            change = {"RemoveEntries": [{"Cidr": gone}]}
            after = [one for one in model.entries if one != gone]
        else:
            left = [one for one in NETWORKS if "." in one and one not in model.entries]
            if not left:
                return
            new = self.random.choice(left)
            change, after = {"AddEntries": [{"Cidr": new}]}, [*model.entries, new]
        self.call("modify_managed_prefix_list", [None], PrefixListId=model.listed, CurrentVersion=model.version, **change)
        model.entries, model.version = after, model.version + 1

    def check(self):
        self.read_ids()
        described = self.ec2.describe_security_groups(GroupIds=self.model.groups)["SecurityGroups"]
        exported = json.loads(subprocess.run([os.environ["SECGROUP"], "export"], check=True, capture_output=True).stdout)
        exported = [group for group in exported["SecurityGroups"] if group["GroupId"] in self.model.groups]
        for source, groups in [("describe", described), ("export", exported)]:
            found = {rule for group in groups for rule in rules_of(group)}
            assert found == self.model.rules, (source, found ^ self.model.rules)
        answer = self.ec2.get_managed_prefix_list_entries(PrefixListId=self.model.listed)["Entries"]
        assert sorted(entry["Cidr"] for entry in answer) == sorted(self.model.entries)


def rules_of(group):
    """The rules of a group in a document of AWS's form."""
    for direction, egress in [("IpPermissions", False), ("IpPermissionsEgress", True)]:
        for one in group[direction]:
            peers = [("CidrIpv4", peer["CidrIp"]) for peer in one["IpRanges"]]
            peers += [("CidrIpv6", peer["CidrIpv6"]) for peer in one["Ipv6Ranges"]]
            peers += [("PrefixListId", peer["PrefixListId"]) for peer in one["PrefixListIds"]]
            peers += [("ReferencedGroupId", peer["GroupId"]) for peer in one["UserIdGroupPairs"]]
            for kind, peer in peers:
                ports = one.get("FromPort", -1), one.get("ToPort", -1)
                yield (group["GroupId"], egress, one["IpProtocol"], *ports, kind, peer)


def main(seed, calls):
    core = botocore.session.get_session()
    watching = shapes.watch(core)
    ec2 = boto3.Session(botocore_session=core).client("ec2", config=Config(retries={"mode": "standard", "total_max_attempts": 6}))
    (interface,) = ec2.describe_network_interfaces()["NetworkInterfaces"]
    sequence = Sequence(seed, ec2, interface["NetworkInterfaceId"])
    for number in range(calls):
        try:
            sequence.step()
        except Exception as error:
            raise SystemExit(f"seed {seed}, call {number}: {error!r}")
    sequence.check()
    assert not watching.faults, "\n".join(watching.faults)
    print(json.dumps({client: sequence.model.open_ports(client) for client in CLIENTS}))


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
