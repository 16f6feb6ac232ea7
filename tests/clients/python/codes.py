"""The error codes of EC2 that the endpoint may answer; the service model has none. From EC2's developer guide."""

# Other than 400.
STATUS = {
    "DryRunOperation": 412,
    "AuthFailure": 401,
    "MissingAuthenticationToken": 401,
    "UnauthorizedOperation": 403,
    "SignatureDoesNotMatch": 403,
    "InvalidClientTokenId": 403,
    "RequestExpired": 400,
    "InternalError": 500,
    "RequestLimitExceeded": 503,
    "Unavailable": 503,
    "ServiceUnavailable": 503,
}

CODES = set(STATUS) | set(
    """
    CannotDelete CidrConflict ClientInvalidParameterValue DefaultVpcAlreadyExists DependencyViolation FilterLimitExceeded
    FlowLogAlreadyExists FlowLogsLimitExceeded IdempotentParameterMismatch IncorrectState
    InvalidAction InvalidAttachmentID.NotFound InvalidAttachment.NotFound InvalidAssociationID.NotFound
    InvalidCharacter InvalidFilter InvalidFlowLogId.NotFound InvalidGroup.Duplicate InvalidGroup.InUse
    InvalidGroup.NotFound InvalidGroup.Reserved InvalidGroupId.Malformed InvalidID InvalidIPAddress.InUse
    InvalidInput InvalidInstanceID InvalidInstanceID.Malformed InvalidInstanceID.NotFound InvalidInternetGatewayID.NotFound InvalidInterface.IpAddressLimitExceeded
    InvalidNetworkAclEntry.NotFound InvalidNetworkAclID.NotFound InvalidNetworkAclId.Malformed
    InvalidNetworkInterface.InUse InvalidNetworkInterface.NotFound InvalidNetworkInterfaceAttachmentId.Malformed
    InvalidNetworkInterfaceID.NotFound InvalidNetworkInterfaceId.Malformed InvalidNextToken
    InvalidPaginationToken InvalidParameter InvalidParameterCombination InvalidParameterValue InvalidParameterDependency
    InvalidPermission.Duplicate InvalidPermission.Malformed InvalidPermission.NotFound
    InvalidPrefixListID.NotFound InvalidPrefixListId.Malformed InvalidPrefixListID.Malformed InvalidPrefixListModification
    InvalidQueryParameter InvalidRequest InvalidResourceType.Unknown InvalidRouteTableID.NotFound
    InvalidSecurityGroupID.NotFound InvalidSecurityGroupRuleId.Malformed InvalidSecurityGroupRuleId.NotFound
    InvalidSecurity.RequestHasExpired InvalidSubnet InvalidSubnet.Conflict InvalidSubnet.Range InvalidSubnetID.NotFound
    InvalidTagKey.Malformed InvalidVpc.Range InvalidVpcCidrBlockAssociationID.NotFound InvalidVpcID.NotFound InvalidVpcId.Malformed InvalidVpcPeeringConnectionID.NotFound
    InvalidZone.NotFound LimitExceeded MalformedQueryString MissingAction MissingParameter
    NetworkAclEntryAlreadyExists NetworkAclEntryLimitExceeded NetworkAclLimitExceeded NetworkInterfaceLimitExceeded
    NetworkInterfaceNotFoundException NoSuchVersion OperationNotPermitted OptInRequired
    PrefixListMaxEntriesExceeded PrefixListVersionMismatch PrefixListVersionNotFound
    PrivateIpAddressLimitExceeded ReferencedSecurityGroupLimitExceeded RequestExpired ResourceCountExceeded ResourceLimitExceeded
    RulesPerSecurityGroupLimitExceeded SecurityGroupLimitExceeded SecurityGroupsPerInstanceLimitExceeded
    SecurityGroupsPerInterfaceLimitExceeded SubnetLimitExceeded TagLimitExceeded TagPolicyViolation
    UnknownParameter UnknownPrincipalType.Unsupported UnsupportedOperation UnsupportedProtocol ValidationError
    VpcLimitExceeded
    """.split()
)
