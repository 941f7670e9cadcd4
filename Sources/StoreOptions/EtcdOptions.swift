package import ArgumentParser
package import EtcdStore
package import Logging
package import Program

/// What belongs to `--store etcd:URL,URL,…`.
package struct EtcdOptions: ParsableArguments {
    package static let variables = [
        "etcd-prefix", "etcd-ca", "etcd-cert", "etcd-key", "etcd-user", "etcd-password-file", "etcd-lease",
    ]

    @Option(help: "What all keys in etcd begin with; one for each installation.")
    package var etcdPrefix = EtcdConfiguration.defaultPrefix

    @Option(help: "CA certificates of etcd (PEM file), for https URLs.")
    package var etcdCa: String?

    @Option(help: "Certificate chain that is shown to etcd (PEM file).")
    package var etcdCert: String?

    @Option(help: "Private key of that certificate (PEM file).")
    package var etcdKey: String?

    @Option(help: "etcd's user, where its authentication is on.")
    package var etcdUser: String?

    @Option(help: "File with that user's password.")
    package var etcdPasswordFile: String?

    @Option(help: "Seconds after which another server leads when the leader says nothing; 2 at least.")
    package var etcdLease = EtcdConfiguration.defaultLeaseSeconds

    package init() {}

    package func validate() throws {
        guard (etcdCert == nil) == (etcdKey == nil) else {
            throw ValidationError("--etcd-cert and --etcd-key need each other")
        }
        guard (etcdUser == nil) == (etcdPasswordFile == nil) else {
            throw ValidationError("--etcd-user and --etcd-password-file need each other")
        }
        guard etcdLease >= 2 else {
            throw ValidationError("--etcd-lease \(etcdLease): etcd makes leases of 2 s or more")
        }
        guard etcdPrefix.hasPrefix("/"), etcdPrefix.count > 1 else {
            throw ValidationError("--etcd-prefix \(etcdPrefix): begin it with a slash, as /holdfast/default/")
        }
    }

    /// Of `URL,URL,…`, and the certificate files, which are to be looked at as long as the program runs; nil without TLS.
    /// Throws `ValidationError`, and `Failure` where a file cannot be read or used.
    package func configuration(
        urls: some StringProtocol, log: Logger
    ) throws -> (configuration: EtcdConfiguration, files: CertificateFiles?) {
        guard let (endpoints, isTLS) = EtcdConfiguration.endpoints(of: urls) else {
            throw ValidationError(
                "--store etcd:\(urls): give etcd:http://HOST:PORT,http://HOST:PORT,… or the same with https")
        }
        var configuration = EtcdConfiguration(
            endpoints: endpoints, prefix: etcdPrefix, lease: .seconds(etcdLease))
        let files = isTLS ? try CertificateFiles(chain: etcdCert, key: etcdKey, authorities: etcdCa, log: log) : nil
        if let files { configuration.credentials = { files.channelCredentials } }
        if let etcdUser, let etcdPasswordFile {
            let password = try SecretFile(
                .password, path: etcdPasswordFile, option: "--etcd-password-file", log: log)
            configuration.user = (etcdUser, { password.current })
        }
        return (configuration, files)
    }
}
