//! Checks what a node needs before it takes part. The start and `holdfast check` share this code, so that they agree.

use cluster::config::{LinkAuth, Peer};
use cluster::mirror::Address;

use crate::auth;
use crate::config::Config;
use crate::listen::tls::{Certificates, TlsError};
use crate::serve::ServeError;
use crate::services;

/// The certificate that clients will see. Without a configured one, one for localhost is made.
pub fn certificates(config: &Config) -> Result<Certificates, TlsError> {
    let files = config.tls.certificate.clone().zip(config.tls.key.clone());
    Certificates::open(files, config.domains(), config.data_dir())
}

/// What tokens for the next login are made with, if the operator has made a key.
pub fn token_key(config: &Config) -> Result<Vec<u8>, ServeError> {
    let Some(file) = &config.auth.token_key_file else {
        return Ok(Vec::new());
    };
    auth::read_key(file).map_err(|error| ServeError::TokenKey(file.clone(), error))
}

/// What the cluster needs to know of the configuration; refused if it cannot work.
pub fn cluster(config: &Config) -> Result<cluster::Config, ServeError> {
    let cluster = assembled(config)?;
    cluster.check()?;
    Ok(cluster)
}

/// How nodes know each other. Secrets are read; they may be too short.
pub fn link_auth(section: &crate::config::Cluster) -> Result<LinkAuth, ServeError> {
    match (
        &section.secret_file,
        &section.ca,
        &section.certificate,
        &section.key,
    ) {
        (Some(file), ..) => {
            let secrets = std::fs::read(file).map_err(|e| ServeError::Secret(file.clone(), e))?;
            Ok(LinkAuth::of_secrets(&secrets))
        }
        (None, Some(ca), Some(certificate), Some(key)) => Ok(LinkAuth::Certificates {
            ca: ca.clone(),
            certificate: certificate.clone(),
            key: key.clone(),
        }),
        _ => Err(ServeError::NoLinkAuth),
    }
}

/// The settings of the shards.
pub fn shard_settings(config: &Config) -> cluster::session::Settings {
    cluster::session::Settings {
        archive_by_default: services::archives_by_default(config),
        ..config.settings()
    }
}

fn assembled(config: &Config) -> Result<cluster::Config, ServeError> {
    let data_dir = config.data_dir().to_path_buf();
    let redis: Option<Address> = config.redis.as_ref().map(|redis| redis.url.clone());
    let single = cluster::Config::single(data_dir, shard_settings(config));
    let Some(section) = &config.cluster else {
        // One shard commits a message once, where it would be twice if its parties lived in two; with one machine for
        // all of them there is nothing to gain.
        let shards = cluster::founded_shards(&single.data_dir).unwrap_or(1);
        return Ok(cluster::Config {
            redis,
            shards,
            ..single
        });
    };
    let peer = |p: &crate::config::PeerAddress| Peer {
        seat: p.seat,
        address: p.address.clone(),
    };
    Ok(cluster::Config {
        seat: section.seat(),
        listen: section.listen,
        advertise: section.advertised(),
        zone: section.zone.clone(),
        peers: section.peers.iter().map(peer).collect(),
        discovery: section.discovery.as_ref().map(ToString::to_string),
        auth: link_auth(section)?,
        shards: section.shards,
        lost_after: section.lost_after,
        replace_after: section.replace_after,
        expected_size: section.expected_size,
        redis,
        ..single
    })
}
