import Access
import ArgumentParser
import IPAMModel
import IPAMService
import KubernetesAPI
import Logging
import Program
import RPC
import ServiceLifecycle

/// Who may call: `--tokens`, `--policy` and what goes with them.
struct AccessOptions: ParsableArguments {
    @Option(
        help: ArgumentHelp(
            """
            Whose tokens tell who calls: kubernetes, the API server's service accounts'; or jwks:PATH, a file with a JSON Web \
            Key Set. Needs --policy.
            """, valueName: "source"))
    var tokens: TokenSource?

    @Option(help: "The audience that tokens must be for.")
    var tokenAudience = "holdfast"

    @Option(help: "With jwks:PATH, the issuer that tokens must be of.")
    var tokenIssuer: String?

    @Option(
        help: ArgumentHelp(
            """
            YAML file: which service accounts, groups and certificates have the roles agent, operator and reader; read again \
            when it changes. Without, each certificate of --tls-client-ca has all.
            """, valueName: "file"))
    var policy: String?

    @Option(help: "Whether the services' description is served (gRPC reflection): on or off.")
    var reflection = Reflection.on

    static let variables = ["tokens", "token-audience", "token-issuer", "policy", "reflection"]

    enum Reflection: String, ExpressibleByArgument, CaseIterable { case on, off }

    func validate() throws {
        if tokens != nil, policy == nil {
            throw ValidationError(
                "--tokens needs --policy: any pod can have a token, and the policy says whose may do what")
        }
        if case .file = tokens {
            if tokenIssuer == nil { throw ValidationError("--tokens jwks:PATH needs --token-issuer") }
        } else if tokenIssuer != nil {
            throw ValidationError("--token-issuer is for --tokens jwks:PATH")
        }
    }

    /// Whether an API server is asked for keys.
    var asksKubernetes: Bool { if case .kubernetes = tokens { true } else { false } }

    /// The gate, what verifies its tokens, and all that must run for it. Without `clientCertificates`, tokens and policy
    /// everybody may do everything. Throws `Failure` and `IPAMError`.
    func gate(
        clientCertificates: Bool, api: KubernetesOptions, logger: Logger
    ) throws -> (gate: Gate, verifier: TokenVerifier?, services: [any Service]) {
        guard tokens != nil || policy != nil || clientCertificates else { return (.open, nil, []) }
        let verifier = try verifier(api, logger)
        let authenticator = Authenticator(
            tokens: verifier, policy: policy == nil ? .anyCertificate : Policy(), log: logger)
        var services: [any Service] = []
        if let verifier { services.append(verifier) }
        if let policy {
            services.append(try PolicyFile(path: policy, authenticator: authenticator, logger: logger))
        }
        return (Gate { authenticator.identify($0) }, verifier, services)
    }

    private func verifier(_ api: KubernetesOptions, _ logger: Logger) throws -> TokenVerifier? {
        let source: KeySource
        switch tokens {
        case nil: return nil
        case .kubernetes: source = .kubernetes(KubernetesClient(try api.configuration, log: logger))
        case .file(let path): source = .file(path, issuer: tokenIssuer ?? "")
        }
        return TokenVerifier(source, audience: tokenAudience, log: logger)
    }
}

/// `--tokens`.
enum TokenSource: ExpressibleByArgument {
    case kubernetes
    case file(String)

    init?(argument: String) {
        if argument == "kubernetes" {
            self = .kubernetes
        } else if argument.hasPrefix("jwks:"), argument.count > "jwks:".count {
            self = .file(String(argument.dropFirst("jwks:".count)))
        } else {
            return nil
        }
    }
}
