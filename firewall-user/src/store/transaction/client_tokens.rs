//! Requests that a client may repeat: the answers to those with a token.

use rusqlite::{OptionalExtension as _, params};

use super::Transaction;
use crate::store::Error;

/// How long an answer is kept, in milliseconds; EC2 keeps it for at least a day.
const KEPT_FOR: i64 = 24 * 60 * 60 * 1000;

/// How many answers are kept; the oldest ones go first.
const KEPT: u32 = 4096;

/// The answer to an earlier request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answered {
    /// Of the request's parameters.
    pub digest: String,
    /// What [`Transaction::answer_again`] was given.
    pub answer: String,
}

impl Transaction<'_> {
    /// The answer to a request of an action with this token; `None` if there was none in the last day.
    ///
    /// # Errors
    /// The store cannot be read.
    pub fn answered(&self, action: &str, token: &str) -> Result<Option<Answered>, Error> {
        let select = "SELECT digest, answer FROM client_tokens \
                      WHERE action = ?1 AND token = ?2 AND time > ?3";
        let oldest = self.clocks.moment.wall - KEPT_FOR;
        self.sql
            .query_row(select, params![action, token, oldest], |row| {
                Ok(Answered { digest: row.get(0)?, answer: row.get(1)? })
            })
            .optional()
            .map_err(|error| Error::sqlite(self.path, error))
    }

    /// Keeps the answer to a request with a token, with the edits of the request.
    ///
    /// # Errors
    /// The store cannot be written.
    pub fn answer_again(
        &mut self,
        (action, token): (&str, &str),
        answered: &Answered,
    ) -> Result<(), Error> {
        let Answered { digest, answer } = answered;
        let now = self.clocks.moment.wall;
        let write = || {
            // Those of a time to come are of a clock that was wrong.
            let expired = "DELETE FROM client_tokens WHERE time <= ?1 OR time > ?2";
            self.sql.execute(expired, [now - KEPT_FOR, now])?;
            let surplus = "DELETE FROM client_tokens WHERE (action, token) IN \
                           (SELECT action, token FROM client_tokens ORDER BY time DESC LIMIT -1 OFFSET ?1)";
            self.sql.execute(surplus, [KEPT - 1])?;
            let insert = "INSERT OR REPLACE INTO client_tokens VALUES (?1, ?2, ?3, ?4, ?5)";
            self.sql.execute(insert, params![action, token, digest, answer, now])
        };
        write().map_err(|error| Error::sqlite(self.path, error))?;
        self.changed = true;
        Ok(())
    }
}
