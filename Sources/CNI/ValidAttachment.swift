/// One attachment that GC says is still valid (CNI 1.1, section 2, "GC").
package struct ValidAttachment: Hashable, Sendable {
    package var containerID: String
    package var interface: String

    package init(containerID: String, interface: String) {
        self.containerID = containerID
        self.interface = interface
    }
}

extension NetworkConfiguration {
    /// The list that comes with GC. Throws code 7 where there is none, or one that cannot be read to its end: that is not
    /// to say that nothing is valid.
    package func validAttachments() throws(CNIError) -> Set<ValidAttachment> {
        // libcni before 1.2.3 knew the second name only. An empty list of Go's is null.
        guard let list = json["cni.dev/valid-attachments"] ?? json["cni.dev/attachments"],
            let elements = list == .null ? [] : list.array
        else {
            throw CNIError(
                .invalidConfiguration, "GC has no list \"cni.dev/valid-attachments\"",
                details: "nothing is detached; to say that no attachment is valid the list is there and empty")
        }
        var valid: Set<ValidAttachment> = []
        for element in elements {
            guard let containerID = element["containerID"]?.string, let interface = element["ifname"]?.string else {
                throw CNIError(
                    .invalidConfiguration, "\"cni.dev/valid-attachments\" has \(element)",
                    details: "nothing is detached; each element has the strings containerID and ifname")
            }
            valid.insert(ValidAttachment(containerID: containerID, interface: interface))
        }
        return valid
    }
}
