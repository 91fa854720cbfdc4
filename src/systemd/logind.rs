//! Lingering: whether a user's manager runs without the user being logged in.
//!
//! That is logind's to say and to change, on the system bus: org.freedesktop.login1(5).

use zbus::{Message, OwnedVariant, Variant};

use super::bus::Scope;
use super::error::Error;

/// Whether the user `uid` lingers.
///
/// # Errors
/// When there is no logind, or when it knows of no such user: one without a session
/// and without lingering.
pub fn lingers(uid: u32) -> Result<bool, Error> {
    let reply = ask(
        &format!("/org/freedesktop/login1/user/_{uid}"),
        "org.freedesktop.DBus.Properties",
        "Get",
        &("org.freedesktop.login1.User", "Linger"),
    )?;
    let value: OwnedVariant = reply.body().deserialize().map_err(Error::Logind)?;
    Ok(*value == Variant::Bool(true))
}

/// Has the user `uid` linger from now on.
///
/// # Errors
/// Mostly polkit's, which may leave this to root. No one is asked for a password.
pub fn set_linger(uid: u32) -> Result<(), Error> {
    let (enable, interactive) = (true, false);
    ask(
        "/org/freedesktop/login1",
        "org.freedesktop.login1.Manager",
        "SetUserLinger",
        &(uid, enable, interactive),
    )?;
    Ok(())
}

fn ask<B>(path: &str, interface: &str, member: &str, body: &B) -> Result<Message, Error>
where
    B: serde::Serialize + zbus::DynamicType,
{
    zbus::block_on(async {
        let connection = Scope::System.connect().await?;
        let destination = Some("org.freedesktop.login1");
        connection
            .call_method(destination, path, Some(interface), member, body)
            .await
    })
    .map_err(Error::Logind)
}
