//! `secgroup key`

use anyhow::{Context as _, Result};
use clap::{Args, Subcommand};
use schemars::JsonSchema;
use serde::Serialize;

use super::output::{self, Format, Output};
use super::table::{Column, table};
use super::{Context, Exit};
use crate::api::Access;
use crate::api::keys::{Key, KeyFile};

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Create an access key for the EC2 API, and print it as a profile of ~/.aws/credentials
    #[command(after_help = "\
The secret is printed once, and not shown again.

Examples:
  secgroup key create --description \"terraform\" >> ~/.aws/credentials
  secgroup key create --read-only --output json")]
    Create(Create),
    /// List the access keys, without their secrets
    List(Output),
    /// Delete an access key; requests that are signed with it are refused at once
    Delete {
        /// Access key by id
        #[arg(value_name = "ID")]
        id: String,
    },
}

#[derive(Debug, Args)]
pub(super) struct Create {
    /// Let it read everything, and change nothing
    #[arg(long)]
    read_only: bool,
    /// What it is for
    #[arg(long, value_name = "TEXT")]
    description: Option<String>,
    #[command(flatten)]
    output: Output,
}

/// `--output json` of `key create`.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct CreatedKey {
    /// The key.
    access_key: NewKey,
}

/// A key with its secret.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "PascalCase")]
struct NewKey {
    #[serde(flatten)]
    metadata: KeyMetadata,
    /// The secret, which is not shown again.
    secret_access_key: String,
}

/// `--output json` of `key list`.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct KeyList {
    /// The keys, in the order of their creation.
    access_key_metadata: Vec<KeyMetadata>,
}

/// A key without its secret.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "PascalCase")]
struct KeyMetadata {
    /// Its id.
    access_key_id: String,
    /// `read-only` or `read-write`.
    access: &'static str,
    /// When it was created, by RFC 3339.
    create_date: String,
    /// What it is for.
    description: String,
}

impl From<&Key> for KeyMetadata {
    fn from(key: &Key) -> Self {
        Self {
            access_key_id: key.access_key_id.clone(),
            access: key.access.name(),
            create_date: key.create_date.to_string(),
            description: key.description.clone(),
        }
    }
}

impl Command {
    pub(super) fn run(self, context: &Context) -> Result<Exit> {
        let file = KeyFile::new(&context.paths.state_dir);
        match self {
            Self::Create(create) => create.run(&file, &context.config.ec2.region),
            Self::List(output) => list(&file, output.output),
            Self::Delete { id } => {
                file.delete(&id).with_context(|| format!("delete key {id}"))?;
                Ok(Exit::Done)
            }
        }
    }
}

impl Create {
    fn run(self, file: &KeyFile, region: &str) -> Result<Exit> {
        let Self { read_only, description, output } = self;
        let access = if read_only { Access::Read } else { Access::Write };
        let key = file.create(access, &description.unwrap_or_default()).context("create key")?;
        match output.output {
            Format::Json => output::value(&CreatedKey {
                access_key: NewKey {
                    metadata: KeyMetadata::from(&key),
                    secret_access_key: key.secret_access_key,
                },
            })?,
            Format::Table => output::lines([
                "[secgroup]".to_owned(),
                format!("aws_access_key_id = {}", key.access_key_id),
                format!("aws_secret_access_key = {}", key.secret_access_key),
                // The AWS CLI makes no call without one.
                format!("region = {region}"),
            ])?,
        }
        Ok(Exit::Done)
    }
}

fn list(file: &KeyFile, format: Format) -> Result<Exit> {
    let keys = file.list().context("list keys")?;
    match format {
        Format::Json => output::value(&KeyList {
            access_key_metadata: keys.iter().map(KeyMetadata::from).collect(),
        })?,
        Format::Table => table(
            [
                Column::text("KEY"),
                Column::text("ACCESS"),
                Column::text("CREATED").dropped(1),
                Column::text("DESCRIPTION").dropped(2),
            ],
            keys.into_iter().map(|key| {
                [
                    key.access_key_id,
                    key.access.name().to_owned(),
                    key.create_date.to_string(),
                    key.description,
                ]
            }),
        )?,
    }
    Ok(Exit::Done)
}
