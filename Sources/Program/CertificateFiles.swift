import Foundation
package import Logging
import NIOSSL
package import RPC
import ServiceLifecycle
import Synchronization

/// Certificate, key and authorities in files that others replace: cert-manager, the kubelet with a mounted Secret, a
/// person. New files are taken once they are whole and fit together; others are logged, and those before serve on.
package final class CertificateFiles: Service, Sendable {
    private struct State {
        var current: TLSMaterial
        /// Files that are kept out, so that it is said once.
        var refused: TLSMaterial?
        var looked = ContinuousClock.now
        /// Whether `run` looks.
        var isRunning = false
    }

    /// Between two looks at the files.
    private static let interval = Duration.seconds(1)

    private let chain: String?
    private let key: String?
    private let authorities: String?
    private let state: Mutex<State>
    private let log: Logger

    /// Throws `Failure` where a file cannot be read or used.
    package init(chain: String?, key: String?, authorities: String?, log: Logger) throws {
        (self.chain, self.key, self.authorities, self.log) = (chain, key, authorities, log)
        let material = try Self.read(chain, key, authorities)
        do throws(UnusableCertificate) {
            try material.check(chain, authorities)
        } catch {
            // Whoever renews it does so while this runs as well.
            guard error.isOver else { throw Failure(error.reason) }
            log.error("certificate cannot be used", metadata: ["reason": "\(error.reason)"])
        }
        state = Mutex(State(current: material))
    }

    /// What the files held when they were good last. While `run` looks at them it reads none, so that who shakes hands never
    /// waits for a disk.
    package var current: TLSMaterial {
        let isDue = state.withLock { state in
            let isDue = !state.isRunning && .now - state.looked >= Self.interval
            if isDue { state.looked = .now }
            return isDue
        }
        if isDue { look() }
        return state.withLock(\.current)
    }

    /// For a client: without authorities it believes the system's, and without a certificate it shows none.
    package var channelCredentials: ChannelCredentials {
        let material = current
        return .tls(
            roots: material.authorities, certificateChain: chain.map { _ in material.certificateChain },
            privateKey: key.map { _ in material.privateKey })
    }

    /// Looks now and then, so that files that are no good are logged when they come. Until graceful shutdown.
    package func run() async {
        state.withLock { $0.isRunning = true }
        await cancelWhenGracefulShutdown {
            while (try? await Task.sleep(for: Self.interval)) != nil { self.look() }
        }
        state.withLock { $0.isRunning = false }
    }

    private func look() {
        let (current, refused) = state.withLock { ($0.current, $0.refused) }
        // Read twice: between two files of the first time they may have been replaced.
        guard let material = try? Self.read(chain, key, authorities), material != current, material != refused,
            material == (try? Self.read(chain, key, authorities))
        else { return }
        let metadata: Logger.Metadata = ["file": "\(chain ?? authorities ?? "")"]
        do throws(UnusableCertificate) {
            try material.check(chain, authorities)
            state.withLock { ($0.current, $0.refused) = (material, nil) }
            log.notice(
                "certificates read anew", metadata: metadata.merging(["expires": "\(material.expiry ?? "")"]) { $1 })
        } catch {
            state.withLock { $0.refused = material }
            log.error(
                "new certificates are kept out, those before are used on",
                metadata: metadata.merging(["reason": "\(error.reason)"]) { $1 })
        }
    }

    private static func read(_ chain: String?, _ key: String?, _ authorities: String?) throws -> TLSMaterial {
        TLSMaterial(
            certificateChain: try chain.map(read) ?? "", privateKey: try key.map(read) ?? "",
            authorities: try authorities.map(read))
    }

    private static func read(_ path: String) throws -> String {
        do {
            return try String(contentsOfFile: path, encoding: .utf8)
        } catch {
            throw Failure(reading: path, error)
        }
    }
}

private struct UnusableCertificate: Error {
    var reason: String
    /// It was good once.
    var isOver = false
}

extension TLSMaterial {
    fileprivate var leaf: NIOSSLCertificate? {
        try? NIOSSLCertificate.fromPEMBytes(Array(certificateChain.utf8)).first
    }

    fileprivate var expiry: String? {
        leaf.map { Date(timeIntervalSince1970: TimeInterval($0.notValidAfter)).formatted(.iso8601) }
    }

    /// The files' names are for the reason.
    fileprivate func check(_ chainFile: String?, _ authoritiesFile: String?) throws(UnusableCertificate) {
        if let authorities, let file = authoritiesFile {
            let certificates = try? NIOSSLCertificate.fromPEMBytes(Array(authorities.utf8))
            if certificates?.isEmpty ?? true { throw UnusableCertificate(reason: "\(file) holds no certificate") }
        }
        guard let chainFile else { return }
        do {
            let chain = try NIOSSLCertificate.fromPEMBytes(Array(certificateChain.utf8))
            if chain.isEmpty { throw UnusableCertificate(reason: "\(chainFile) holds no certificate") }
            let key = try NIOSSLPrivateKey(bytes: Array(privateKey.utf8), format: .pem)
            _ = try NIOSSLContext(
                configuration: .makeServerConfiguration(
                    certificateChain: chain.map { .certificate($0) }, privateKey: .privateKey(key)))
        } catch let error as UnusableCertificate {
            throw error
        } catch {
            throw UnusableCertificate(reason: "\(chainFile) and its key are no pair of certificate and key: \(error)")
        }
        if let leaf, TimeInterval(leaf.notValidAfter) < Date().timeIntervalSince1970 {
            throw UnusableCertificate(reason: "\(chainFile) has expired at \(expiry ?? "")", isOver: true)
        }
    }
}
