//! Ids as EC2 writes them.

macro_rules! id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name(String);
    };
}

id!(/** `sg-…` */ GroupId);
id!(/** `sgr-…` */ RuleId);
id!(/** `pl-…` */ PrefixListId);
id!(/** `eni-…` */ InterfaceId);
