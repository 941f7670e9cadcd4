import IPAMModel
import Program

extension Failure {
    /// What the server's refusal means for the person at the keyboard, and what to do.
    init(_ error: IPAMError, server: String, speaksTLS: Bool = false) {
        guard error.reason == .noAnswer else {
            self.init(error.message, hint: Self.hint(for: error), reason: error.reason.rawValue)
            return
        }
        let asked = error.metadata["server"] ?? server
        // Else it is the leader that one of them has named.
        let isGiven = asked == server || server.split { ", ".contains($0) }.contains { $0 == asked }
        let whom =
            isGiven ? "the server at \(server)" : "the leader at \(asked), which the server at \(server) names"
        self.init(
            "no answer from \(whom): \(error.message)",
            hint: Self.hint(forNoAnswer: error, server: asked, isGiven: isGiven, speaksTLS: speaksTLS),
            reason: error.reason.rawValue)
    }

    /// By the C core's words.
    private static func hint(
        forNoAnswer error: IPAMError, server: String, isGiven: Bool, speaksTLS: Bool
    ) -> String? {
        func says(_ words: String...) -> Bool { words.contains(where: error.message.contains) }
        if says("wrong version number") {
            return "what answers there speaks no TLS: leave out --tls-ca (HOLDFAST_TLS_CA), or look at host and port"
        }
        if says("certificate verify failed") {
            return """
                --tls-ca (HOLDFAST_TLS_CA) is not of the CA that made the server's certificate, or that certificate has \
                expired
                """
        }
        if says("is not in peer certificate") {
            return """
                name the server with --server by a name that its certificate has: `openssl s_client -connect \(server) \
                </dev/null | openssl x509 -noout -ext subjectAltName` shows them
                """
        }
        if says("Failed parsing HTTP/2", "http2 header with status", "Method not found", "unknown service") {
            return """
                what answers there is no Holdfast server's API, or that of an older one: look at host and port, which is 7440 \
                as a rule
                """
        }
        if says("Socket closed", "HTTP2 preface"), speaksTLS {
            return """
                it may want a client certificate: --tls-cert and --tls-key (HOLDFAST_TLS_CERT and HOLDFAST_TLS_KEY)
                """
        }
        if says("Socket closed", "HTTP2 preface") {
            return "it may speak TLS: name the CA of its certificate with --tls-ca (HOLDFAST_TLS_CA)"
        }
        guard error.code == .unavailable else { return nil }
        if !isGiven { return hint(forLeader: server) }
        if says("Deadline Exceeded") {
            return "is it running there, and reached from here? --timeout (HOLDFAST_TIMEOUT) waits for it longer"
        }
        return """
            is it running there? Start one with `holdfast-server --listen \(server.prefix { $0 != "," })`, or name another \
            with --server HOST:PORT or HOLDFAST_SERVER
            """
    }

    /// One that another server has named, and that is not reached.
    private static func hint(forLeader leader: String) -> String {
        """
        where \(leader) is not reached from here, forward a port to it and name that with --server, or run `holdfast` on a \
        server's machine or in its pod
        """
    }

    private static func hint(for error: IPAMError) -> String? {
        let metadata = error.metadata
        switch error.reason {
        case .notLeader:
            return metadata["leader"].map(hint(forLeader:)) ?? "another server leads in a moment: try again"
        case .addressQuarantined:
            // What pods hold is not reserved.
            guard let owner = metadata["lastOwner"], owner.hasPrefix("vm ") else { return "wait till then" }
            return "\(owner) gets it back at once, with `holdfast reserve`; everybody else has to wait till then"
        case .addressTaken, .macTaken:
            return "`holdfast binding list` shows who has what"
        case .addressExcluded:
            return "`holdfast pool show \(metadata["pool"] ?? "NAME")` shows what is never given"
        case .bindingNotFound: return "`holdfast binding list` shows what there is"
        case .poolNotFound: return "`holdfast pool list` shows what there is"
        case .noDefaultPool:
            if let closed = metadata["pool"] {
                return "name another with --pool, or change the namespaces of \(closed): `holdfast pool update -f FILE`"
            }
            return "name one with --pool, or make one the default: is_default in `holdfast pool update`"
        case .poolExhausted where metadata["cause"] == "restore":
            return "give a VM the address that it had with `holdfast reserve`, or wait till then"
        case .poolExhausted: return "add a prefix with `holdfast pool update -f FILE`, or release what is not used"
        case .poolInUse:
            if let time = metadata["availableAt"] { return "it can be done from \(time) on" }
            return "release its bindings first: `holdfast binding list --pool \(metadata["pool"] ?? "NAME")`"
        case .poolChanged:
            return """
                `holdfast pool show \(metadata["pool"] ?? "NAME") -o yaml` has what it is now: make your change to that, or \
                leave `revision` out of the file
                """
        case .poolExists: return "change it with `holdfast pool update -f FILE`"
        case .awaitsRestore:
            return "run `holdfast restore FILE`; where there is no backup, start the server without --await-restore"
        case .migrationUnknown, .migrationEnded:
            return "`holdfast binding show NAMESPACE/NAME` shows the open migration, if there is one"
        default:
            return error.isRetryable ? "nothing needs to be changed: try again" : nil
        }
    }
}
