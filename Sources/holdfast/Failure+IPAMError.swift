import IPAMModel
import Program

extension Failure {
    /// What the server's refusal means for the person at the keyboard, and what to do.
    init(_ error: IPAMError, server: String) {
        if error.code == .unavailable, error.reason == .noAnswer {
            self.init(
                "no answer from the server at \(server): \(error.message)",
                hint: """
                    is it running there? Start one with `holdfast-server --listen \(server)`, or name another with \
                    --server HOST:PORT or HOLDFAST_SERVER
                    """)
        } else {
            self.init(error.message, hint: Self.hint(for: error))
        }
    }

    private static func hint(for error: IPAMError) -> String? {
        let metadata = error.metadata
        switch error.reason {
        case .addressQuarantined:
            let owner = metadata["lastOwner"] ?? "its last owner"
            return "\(owner) gets it back at once, with `holdfast reserve`; everybody else has to wait till then"
        case .addressTaken, .macTaken:
            return "`holdfast binding list` shows who has what"
        case .addressExcluded:
            return "`holdfast pool show \(metadata["pool"] ?? "NAME")` shows what is never given"
        case .bindingNotFound: return "`holdfast binding list` shows what there is"
        case .poolNotFound: return "`holdfast pool list` shows what there is"
        case .noDefaultPool:
            return "name one with --pool, or make one the default: is_default in `holdfast pool update`"
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
        case .migrationUnknown, .migrationEnded:
            return "`holdfast binding show NAMESPACE/NAME` shows the open migration, if there is one"
        default:
            return error.isRetryable ? "nothing needs to be changed: try again" : nil
        }
    }
}
