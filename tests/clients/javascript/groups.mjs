// The SDK for JavaScript reads XML by another parser than the clients in Python.
import assert from "node:assert/strict";
import { createRequire } from "node:module";

// Modules are looked for beside the script; these are where `cargo xtask setup` installed them.
const require = createRequire(process.env.CLIENTS_NODE + "/");
const aws = require("@aws-sdk/client-ec2");

const client = new aws.EC2Client({});
const send = (name, input = {}) => client.send(new aws[`${name}Command`](input));

const { Vpcs } = await send("DescribeVpcs", { Filters: [{ Name: "is-default", Values: ["true"] }] });
assert.equal(Vpcs.length, 1);
assert.equal(Vpcs[0].IsDefault, true);

const { GroupId, SecurityGroupArn, Tags } = await send("CreateSecurityGroup", {
  GroupName: "javascript",
  Description: 'a & b; c="d"'.replaceAll('"', "!"),
  TagSpecifications: [{ ResourceType: "security-group", Tags: [{ Key: "a<b", Value: "c & d > 'e'" }] }],
});
assert.match(GroupId, /^sg-[0-9a-f]{17}$/);
assert.ok(SecurityGroupArn.endsWith(GroupId));
assert.deepEqual(Tags, [{ Key: "a<b", Value: "c & d > 'e'" }]);

const { SecurityGroupRules } = await send("AuthorizeSecurityGroupIngress", {
  GroupId,
  IpPermissions: [
    {
      IpProtocol: "tcp",
      FromPort: 80,
      ToPort: 81,
      IpRanges: [{ CidrIp: "0.0.0.0/0", Description: "everywhere" }],
      Ipv6Ranges: [{ CidrIpv6: "::/0" }],
      UserIdGroupPairs: [{ GroupId }],
    },
  ],
});
assert.equal(SecurityGroupRules.length, 3);
assert.equal(SecurityGroupRules[0].IsEgress, false);
assert.equal(SecurityGroupRules[0].FromPort, 80);

const { SecurityGroups } = await send("DescribeSecurityGroups", { GroupIds: [GroupId] });
const [group] = SecurityGroups;
assert.equal(group.Description, "a & b; c=!d!");
assert.equal(group.IpPermissions.length, 1);
assert.deepEqual(group.IpPermissions[0].IpRanges, [{ CidrIp: "0.0.0.0/0", Description: "everywhere" }]);
// An empty list is a list, not absent.
assert.deepEqual(group.IpPermissions[0].PrefixListIds, []);
assert.equal(group.IpPermissionsEgress[0].FromPort, undefined);

const rules = [];
for await (const page of aws.paginateDescribeSecurityGroupRules(
  { client, pageSize: 5 },
  { Filters: [{ Name: "group-id", Values: [GroupId] }] },
)) {
  rules.push(...page.SecurityGroupRules);
}
assert.equal(rules.length, 4);
assert.ok(rules.every((rule) => /^sgr-[0-9a-f]{17}$/.test(rule.SecurityGroupRuleId)));
assert.equal(rules.filter((rule) => rule.IsEgress).length, 1);

const { Return, RevokedSecurityGroupRules } = await send("RevokeSecurityGroupIngress", {
  GroupId,
  SecurityGroupRuleIds: [SecurityGroupRules[0].SecurityGroupRuleId],
});
assert.equal(Return, true);
assert.equal(RevokedSecurityGroupRules.length, 1);

await send("DeleteSecurityGroup", { GroupId });
const error = await send("DescribeSecurityGroups", { GroupIds: [GroupId] }).catch((error) => error);
assert.equal(error.name, "InvalidGroup.NotFound");
assert.equal(error.message, `The security group '${GroupId}' does not exist`);
assert.equal(error.$metadata.httpStatusCode, 400);
assert.match(error.$metadata.requestId ?? error.RequestId ?? "", /^[0-9a-f-]{36}$/);
const dry = await send("DescribeVpcs", { DryRun: true }).catch((error) => error);
assert.equal(dry.name, "DryRunOperation");
assert.equal(dry.$metadata.httpStatusCode, 412);
console.log("ok");
