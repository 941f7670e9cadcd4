import NIOSSL
import Synchronization

/// Token and TLS settings as their files have them now: kubelet and cert-manager replace them under a running process.
final class Credentials: Sendable {
    struct Current {
        var token: String?
        /// Nil for plain HTTP.
        var tls: TLSConfiguration?
    }

    private struct State {
        var token: String?
        var materials: [[UInt8]] = []
        var tls: TLSConfiguration?
    }

    private let configuration: KubernetesConfiguration
    private let state = Mutex(State())

    init(_ configuration: KubernetesConfiguration) { self.configuration = configuration }

    /// Reads the files. One that cannot be read just now is as it was before; throws `configuration` where it never was.
    func current() throws(KubernetesError) -> Current {
        var token: [UInt8]?
        if let material = configuration.token { token = try recent(material, keptToken()) }
        let isPlain = configuration.server.hasPrefix("http:")
        let tls = isPlain ? nil : try tls()
        let text = token.map { String(decoding: $0, as: UTF8.self).filter { !$0.isWhitespace } }
        state.withLock { $0.token = text }
        return Current(token: text, tls: tls)
    }

    private func keptToken() -> [UInt8]? { state.withLock { $0.token.map { Array($0.utf8) } } }

    private func recent(
        _ material: KubernetesConfiguration.Material, _ kept: [UInt8]?
    ) throws(KubernetesError) -> [UInt8] {
        do {
            let bytes = try material.read()
            if !bytes.isEmpty || kept == nil { return bytes }
        } catch {
            if kept == nil { throw error }
        }
        return kept ?? []
    }

    private func tls() throws(KubernetesError) -> TLSConfiguration {
        var materials: [[UInt8]] = []
        do {
            if case .certificates(let material) = configuration.trust { materials.append(try material.read()) }
            if let certificate = configuration.certificate {
                materials.append(try certificate.chain.read())
                materials.append(try certificate.key.read())
            }
            if let known = state.withLock({ $0.materials == materials ? $0.tls : nil }) { return known }
            let tls = try make(materials)
            state.withLock { ($0.materials, $0.tls) = (materials, tls) }
            return tls
        } catch {
            // Half of a pair may be new: the pair before serves until both are.
            if let known = state.withLock({ $0.tls }) { return known }
            throw error
        }
    }

    private func make(_ materials: [[UInt8]]) throws(KubernetesError) -> TLSConfiguration {
        var tls = TLSConfiguration.makeClientConfiguration()
        var rest = materials[...]
        do {
            switch configuration.trust {
            case .system: break
            case .certificates:
                tls.trustRoots = .certificates(try NIOSSLCertificate.fromPEMBytes(rest.removeFirst()))
            case .anyone: tls.certificateVerification = .none
            }
            if configuration.certificate != nil {
                tls.certificateChain = try NIOSSLCertificate.fromPEMBytes(rest.removeFirst()).map {
                    .certificate($0)
                }
                tls.privateKey = .privateKey(try NIOSSLPrivateKey(bytes: rest.removeFirst(), format: .pem))
            }
            return tls
        } catch {
            throw KubernetesError(
                .configuration, "a certificate or key for \(configuration.server) is no PEM: \(error)")
        }
    }
}
