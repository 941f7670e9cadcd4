import Foundation
import JWTKit
import Testing

/// A token's claims, as a test writes them: any JSON.
struct Claims: JWTPayload {
    var iss: String? = Issuer.name
    var sub: String? = "system:serviceaccount:holdfast:holdfast-agent"
    var aud: [String]? = ["holdfast"]
    var exp: Double? = 4_000_000_000
    var nbf: Double?
    var groups: [String]?
    var kubernetes: Kubernetes? = Kubernetes()

    struct Reference: Codable {
        var name: String
        var uid: String?
    }

    struct Kubernetes: Codable {
        var namespace: String? = "holdfast"
        var pod: Reference? = Reference(name: "agent", uid: "uid-agent")
        var node: Reference?
    }

    enum CodingKeys: String, CodingKey {
        case iss, sub, aud, exp, nbf, groups
        case kubernetes = "kubernetes.io"
    }

    static func on(_ node: String) -> Claims {
        var claims = Claims()
        claims.kubernetes?.node = Reference(name: node)
        return claims
    }

    static func of(_ issuer: String) -> Claims {
        var claims = Claims.on("node-a")
        claims.iss = issuer
        return claims
    }

    func verify(using algorithm: some JWTAlgorithm) throws {}
}

/// Signs tokens with keys of its own.
struct Issuer {
    static let name = "https://kubernetes.default.svc"

    private let keys = JWTKeyCollection()
    private var shown: [String] = []

    init(_ names: String...) async throws {
        for name in names {
            let key = ES256PrivateKey()
            let parameters = try #require(key.parameters)
            await keys.add(ecdsa: key, kid: JWKIdentifier(string: name))
            shown.append(
                """
                {"kty":"EC","crv":"P-256","alg":"ES256","use":"sig","kid":"\(name)","x":"\(url(parameters.x))",\
                "y":"\(url(parameters.y))"}
                """)
        }
    }

    func json(_ count: Int? = nil) -> String {
        "{\"keys\":[\(shown.prefix(count ?? shown.count).joined(separator: ","))]}"
    }

    func sign(_ claims: Claims, with key: String = "first") async throws -> String {
        try await keys.sign(claims, kid: JWKIdentifier(string: key))
    }
}

/// base64url, whichever of the two forms it has.
private func url(_ text: String) -> String {
    text.replacing("+", with: "-").replacing("/", with: "_").replacing("=", with: "")
}
