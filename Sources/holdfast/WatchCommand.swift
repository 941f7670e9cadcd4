import ArgumentParser
import IPAMAPI
import IPAMModel
import Program

struct Watch: ClientCommand {
    static let configuration = CommandConfiguration(
        abstract: "Shows the bindings there are, and then every change, until interrupted.",
        discussion: """
            Where the server ends or another leads, it begins anew by itself, and shows what has changed meanwhile: of several \
            changes of one binding the last.
            """)
    @OptionGroup var filter: FilterOptions
    @OptionGroup var options: ClientOptions

    func run(_ session: Session) async throws { try await follow(session.calls, in: session) }

    private func follow(_ calls: some ServiceCalls, in session: Session) async throws {
        var (shown, isBroken) = (ShownBindings(), false)
        var widths = Self.widths
        let deadline = ContinuousClock.now + session.timeout
        while true {
            do {
                // Not before the server has answered.
                for try await event in calls.watch(filter.filter) {
                    if shown.isEmpty { try showHead(session, widths) }
                    isBroken = false
                    for event in shown.take(event) { try show(event, session, &widths) }
                }
                return
            } catch let error as IPAMError where error.isRetryable {
                // At first it may be a mistake.
                let mayHelp = error.reason != .noAnswer || options.server.contains(",")
                if shown.isEmpty, !mayHelp || .now > deadline { throw error }
                if !isBroken { StandardError.write(Array("watching again: \(error.message)\n".utf8)) }
                isBroken = true
                shown.beginAnew()
                try await Task.sleep(for: session.pause)
            }
        }
    }

    private static let columns = ["EVENT", "NAMESPACE", "NAME", "NETWORK", "ADDRESSES", "MAC", "STATE", "NODE", "POD"]
    /// At first; wider from the first cell on that is.
    private static let widths = [8, 12, 20, 14, 16, 17, 10, 20, 0]

    private func showHead(_ session: Session, _ widths: [Int]) throws {
        if session.format == .table { try session.write(Table.line(Self.columns, widths: widths)) }
    }

    private func show(_ event: BindingEvent, _ session: Session, _ widths: inout [Int]) throws {
        switch session.format {
        case .table:
            let cells = event.binding?.binding.cells.map { $0.isEmpty ? "-" : $0 }
            if let cells { widths = Table.widths(widths, with: [event.word] + cells) }
            try session.write(Table.line([event.word] + (cells ?? ["(what follows are changes)"]), widths: widths))
        case .json: try session.write(event.document.jsonLine)
        case .yaml: try session.write("---\n" + event.document.yaml)
        }
    }
}

/// What a watch has shown, so that one that begins anew shows what is new.
private struct ShownBindings {
    private var bindings: [OwnerKey: DescribedBinding] = [:]
    /// Shown before the watch began anew, and not sent again yet.
    private var missing: Set<OwnerKey> = []
    private var isSynced = false
    private(set) var isEmpty = true

    mutating func beginAnew() { missing = Set(bindings.keys) }

    /// What is to be shown of `event`.
    mutating func take(_ event: BindingEvent) -> [BindingEvent] {
        isEmpty = false
        guard let binding = event.binding else {
            defer { (isSynced, missing) = (true, []) }
            let gone = missing.compactMap { bindings.removeValue(forKey: $0) }
            return gone.map { BindingEvent(kind: .freed, binding: $0, revision: event.revision) }
                + (isSynced ? [] : [event])
        }
        let key = binding.binding.owner.key
        missing.remove(key)
        if event.kind == .freed {
            bindings[key] = nil
            return [event]
        }
        guard let old = bindings.updateValue(binding, forKey: key), event.kind == .created else { return [event] }
        if old.binding.revision == binding.binding.revision { return [] }
        return [BindingEvent(kind: .updated, binding: binding, revision: event.revision)]
    }
}
