package import CNI
import IPAMAPI
import IPAMModel
import Logging

extension AttachmentHandler {
    /// GC: detaches every attachment of this node on the network that the runtime does not list as valid
    /// (CNI 1.1, section 2, "GC"). A VM's binding stays, a pod's goes, as with DEL.
    ///
    /// Goes on after an error. Throws the first, code 7 where there is no list.
    package func collect(_ request: AgentRequest) async throws(CNIError) {
        let deadline = ContinuousClock.now + Self.patience
        let network = try NetworkConfiguration(request.configuration)
        let valid = try network.validAttachments()
        var failure: IPAMError?
        var (detached, failed) = (0, 0)
        do throws(IPAMError) {
            for binding in try await bindings(ofNetwork: network.name, by: deadline) {
                let interface = binding.owner.network.dropFirst(network.name.utf8.count + 1)
                for attachment in [binding.active, binding.target].compactMap({ $0 }) where attachment.node == node {
                    // What names no container cannot be in the list.
                    guard !attachment.containerID.isEmpty,
                        !valid.contains(
                            ValidAttachment(containerID: attachment.containerID, interface: String(interface)))
                    else { continue }
                    do throws(IPAMError) {
                        try await detach(attachment, from: binding.owner, by: deadline)
                        detached += 1
                    } catch {
                        failure = failure ?? error
                        failed += 1
                    }
                }
            }
        } catch {
            failure = failure ?? error
        }
        if detached > 0 || failure != nil {
            log.log(
                level: failure == nil ? .info : .warning, "garbage collected",
                metadata: [
                    "network": "\(network.name)", "valid": "\(valid.count)", "detached": "\(detached)",
                    "failed": "\(failed)", "error": "\(failure?.message ?? "")",
                ])
        }
        if let failure { throw CNIError(failure) }
    }

    /// Those with an attachment on this node.
    private func bindings(
        ofNetwork name: String, by deadline: ContinuousClock.Instant
    ) async throws(IPAMError) -> [Binding] {
        var all: [Binding] = []
        var token: String?
        repeat {
            let page = try await ipam.bindings(
                matching: BindingFilter(node: node), pageSize: 0, pageToken: token, timeout: deadline.remaining)
            // An interface's name has no slash: what stands before the last one is the network's.
            all += page.bindings.map(\.binding).filter { $0.owner.network.hasPrefix(name + "/") }
                .filter { !$0.owner.network.dropFirst(name.count + 1).contains("/") }
            token = page.nextPageToken
        } while token != nil
        return all
    }

    /// By pod UID and container ID: what has changed hands since it was listed is not touched.
    private func detach(
        _ attachment: Attachment, from owner: Owner, by deadline: ContinuousClock.Instant
    ) async throws(IPAMError) {
        do {
            _ = try await ipam.release(
                .attachment(attachment.id, owner: owner, network: owner.network), timeout: deadline.remaining)
        } catch {
            guard error.code == .notFound else { throw error }
            return
        }
        log.info(
            "detached by garbage collection",
            metadata: [
                "owner": "\(owner.key)", "pod": "\(attachment.pod)", "container": "\(attachment.containerID)",
            ])
    }
}
