"""Checks every answer of an EC2 endpoint against botocore's service model.

A client ignores elements that it does not know, and takes an absent list for none, so a test that only reads
what it expects would not see either. `watch` checks the bytes of each answer that a session receives.
"""

import base64
import re
import xml.etree.ElementTree as ElementTree

import codes

NAMESPACES = {
    "ec2": "http://ec2.amazonaws.com/doc/2016-11-15/",
    "sts": "https://sts.amazonaws.com/doc/2011-06-15/",
}

# Elements that EC2 always has, empty lists among them: clients index them without asking.
ALWAYS = {
    "SecurityGroup": "ownerId groupId groupName groupDescription vpcId ipPermissions ipPermissionsEgress securityGroupArn",
    "IpPermission": "ipProtocol groups ipRanges ipv6Ranges prefixListIds",
    "SecurityGroupRule": "securityGroupRuleId groupId groupOwnerId isEgress ipProtocol fromPort toPort",
    "UserIdGroupPair": "userId groupId",
    "IpRange": "cidrIp",
    "Ipv6Range": "cidrIpv6",
    "PrefixListId": "prefixListId",
    "ManagedPrefixList": "prefixListId prefixListName addressFamily state prefixListArn version ownerId",
    "PrefixListEntry": "cidr",
    "NetworkInterface": "networkInterfaceId subnetId vpcId availabilityZone description ownerId requesterManaged"
    " status macAddress groupSet sourceDestCheck privateIpAddressesSet ipv6AddressesSet tagSet interfaceType",
    "NetworkAcl": "networkAclId vpcId default entrySet associationSet tagSet ownerId",
    "NetworkAclEntry": "ruleNumber protocol ruleAction egress",
    "NetworkAclAssociation": "networkAclAssociationId networkAclId subnetId",
    "Vpc": "vpcId state cidrBlock dhcpOptionsId instanceTenancy isDefault ownerId",
    "Subnet": "subnetId state vpcId availabilityZone availableIpAddressCount defaultForAz ownerId",
    "RouteTable": "routeTableId vpcId routeSet associationSet",
    "FlowLog": "flowLogId flowLogStatus creationTime resourceId trafficType logDestinationType logFormat"
    " maxAggregationInterval",
    "TagDescription": "key value resourceId resourceType",
    "Tag": "key value",
    "AvailabilityZone": "zoneName regionName zoneState",
    "Region": "regionName regionEndpoint",
    "Reservation": "reservationId ownerId instancesSet",
    "Instance": "instanceId networkInterfaceSet groupSet",
}

# Lists at the top of an answer that EC2 leaves out: no tags were asked for, another attribute was, or the list is
# about a rare case.
MAY_BE_ABSENT = {"tagSet", "unknownIpPermissionSet", "groupSet"}

# Values beside those of the model: EC2 has no type for a host like this one, and clients show any text.
ALSO = {"InstanceType": {"secgroup.host"}}

TIMESTAMP = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z")
REQUEST_ID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")


class Watch:
    """The faults of all answers, and the actions and error codes that were seen."""

    def __init__(self):
        self.faults = []
        self.actions = set()
        self.codes = set()

    def __call__(self, operation_model, response_dict, **_):
        body = response_dict["body"]
        status = response_dict["status_code"]
        self.actions.add(operation_model.name)
        try:
            root = ElementTree.fromstring(body)
        except ElementTree.ParseError as error:
            self.faults.append(f"{operation_model.name}: no XML: {error}: {body!r}")
            return
        if status < 300:
            found = list(success(operation_model, root))
        else:
            code, found = failure(root, status, sts=operation_model.service_model.service_name == "sts")
            self.codes.add(code)
        found += headers(response_dict["headers"])
        self.faults += [f"{operation_model.name}: {fault}\n  {body.decode()}" for fault in found]


def watch(session):
    """Checks the answers of all clients that a botocore session makes from now on."""
    watching = Watch()
    for service in ["ec2", "sts"]:
        session.get_component("event_emitter").register(f"before-parse.{service}", watching)
    return watching


def headers(found):
    kind = found.get("content-type", "")
    if not kind.startswith("text/xml"):
        yield f"the header Content-Type is {kind!r}"


def tag(element):
    return element.tag.rpartition("}")[2]


def success(operation_model, root):
    """Yields what is wrong in an answer with status 200."""
    service = operation_model.service_model.service_name
    name = operation_model.name
    if root.tag != f"{{{NAMESPACES[service]}}}{name}Response":
        yield f"the outermost element is {root.tag}"
    children = list(root)
    if service == "sts":
        shape = operation_model.output_shape
        result = [child for child in children if tag(child) == shape.serialization.get("resultWrapper", f"{name}Result")]
        if len(result) != 1 or {tag(child) for child in children} != {f"{name}Result", "ResponseMetadata"}:
            yield f"has {[tag(child) for child in children]}"
            return
        yield from structure(shape, list(result[0]), f"{name}Result", top=True)
        return
    ids = [child for child in children if tag(child) == "requestId"]
    if len(ids) != 1 or not REQUEST_ID.fullmatch(ids[0].text or ""):
        yield f"has {len(ids)} elements requestId, or it is no UUID"
    rest = [child for child in children if tag(child) != "requestId"]
    if operation_model.output_shape is None:
        # EC2 answers `return` all the same.
        unknown = [tag(child) for child in rest if tag(child) != "return"]
        if unknown:
            yield f"has no output, but {unknown}"
        return
    yield from structure(operation_model.output_shape, rest, name, top=True)


def structure(shape, children, path, top=False):
    members = {member.serialization.get("name", name): member for name, member in shape.members.items()}
    seen = set()
    for child in children:
        name = tag(child)
        if name in seen:
            yield f"{path}: two elements {name}"
        seen.add(name)
        if name in members:
            yield from value(members[name], child, f"{path}/{name}")
        elif not (top and name == "return"):
            # EC2 answers `return` also where the model has no member for it.
            yield f"{path}: {shape.name} has no element {name}"
    required = set(ALWAYS.get(shape.name, "").split())
    if top:
        required |= {name for name, member in members.items() if member.type_name == "list"} - MAY_BE_ABSENT
    for name in sorted(required - seen):
        yield f"{path}: no element {name} of {shape.name}"


def value(shape, element, path):
    kind = shape.type_name
    children = list(element)
    text = element.text or ""
    if element.attrib:
        yield f"{path}: attributes {element.attrib}"
    if kind in ("structure", "list") and text.strip():
        yield f"{path}: text {text!r} in a {kind}"
    if kind == "structure":
        yield from structure(shape, children, path)
    elif kind == "list":
        item = shape.member.serialization.get("name", "member")
        for index, child in enumerate(children):
            if tag(child) != item:
                yield f"{path}: an element {tag(child)}, not {item}"
            yield from value(shape.member, child, f"{path}[{index}]")
    elif children:
        yield f"{path}: elements in a {kind}"
    elif kind in ("integer", "long"):
        if not re.fullmatch(r"-?\d+", text):
            yield f"{path}: {text!r} is no {kind}"
    elif kind in ("float", "double"):
        if not re.fullmatch(r"-?\d+(\.\d+)?", text):
            yield f"{path}: {text!r} is no {kind}"
    elif kind == "boolean":
        if text not in ("true", "false"):
            yield f"{path}: {text!r} is no boolean"
    elif kind == "timestamp":
        if not TIMESTAMP.fullmatch(text):
            yield f"{path}: {text!r} is no timestamp"
    elif kind == "blob":
        base64.b64decode(text, validate=True)
    elif kind == "string":
        if shape.enum and text not in shape.enum and text not in ALSO.get(shape.name, ()):
            yield f"{path}: {text!r} is not among {shape.enum}"
    else:
        yield f"{path}: a shape of type {kind}"


def failure(root, status, sts=False):
    """The code of an error, and what is wrong in it."""
    if sts:
        places = {tag(element): element.text for element in root.iter()}
        good = root.tag == f"{{{NAMESPACES['sts']}}}ErrorResponse" and {"Type", "Code", "Message", "RequestId"} <= set(places)
        return places.get("Code"), [] if good else ["the error has not the form of STS"]
    names = [element.tag for element in root.iter()]
    if names != ["Response", "Errors", "Error", "Code", "Message", "RequestID"]:
        return None, [f"the error has the elements {names}"]
    code = root.findtext("Errors/Error/Code")
    found = []
    if code not in codes.CODES:
        found.append(f"{code} is no error code of EC2")
    if status != codes.STATUS.get(code, 400):
        found.append(f"{code} has status {status}")
    if not (root.findtext("Errors/Error/Message") or "").strip():
        found.append(f"{code} has no message")
    if not REQUEST_ID.fullmatch(root.findtext("RequestID") or ""):
        found.append("RequestID is no UUID")
    return code, found
