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

    /// What the files held when they were good last.
    package var current: TLSMaterial {
        state.withLock { state in
            if .now - state.looked >= Self.interval { look(&state) }
            return state.current
        }
    }

    /// Looks now and then also while nobody asks, so that files that are no good are logged when they come. Until graceful
    /// shutdown.
    package func run() async {
        await cancelWhenGracefulShutdown {
            while (try? await Task.sleep(for: Self.interval)) != nil { _ = self.current }
        }
    }

    private func look(_ state: inout State) {
        state.looked = .now
        // Read twice: between two files of the first time they may have been replaced.
        guard let material = try? Self.read(chain, key, authorities),
            material != state.current, material != state.refused,
            material == (try? Self.read(chain, key, authorities))
        else { return }
        do throws(UnusableCertificate) {
            try material.check(chain, authorities)
            state.current = material
            state.refused = nil
            log.notice(
                "certificates read anew",
                metadata: ["file": "\(chain ?? authorities ?? "")", "expires": "\(material.expiry ?? "")"])
        } catch {
            state.refused = material
            log.error(
                "new certificates are kept out, those before are used on",
                metadata: ["file": "\(chain ?? authorities ?? "")", "reason": "\(error.reason)"])
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
            throw Failure("\(path): \(error.localizedDescription)")
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
