import CNI
import Foundation
import Glibc

/// One directory of a node in which files are installed, and `.holdfast-agent.installed` in it, the record of them.
///
/// Two installations wait for each other: flock(2) on the directory, until this object's end.
final class InstallationDirectory {
    private static let recordName = ".holdfast-agent.installed"

    private let path: String
    private let handle: FileHandle

    /// Makes the directory where it is missing.
    init(_ path: String) throws(InstallationError) {
        do {
            try FileManager.default.createDirectory(
                atPath: path, withIntermediateDirectories: true, attributes: [.posixPermissions: 0o755])
        } catch {
            throw InstallationError("\(path) cannot be made: \(error.localizedDescription)")
        }
        let descriptor = unsafe open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC)
        guard descriptor >= 0 else { throw InstallationError("opened", path) }
        let handle = FileHandle(fileDescriptor: descriptor, closeOnDealloc: true)
        guard flock(descriptor, LOCK_EX) == 0 else { throw InstallationError("locked", path) }
        self.path = path
        self.handle = handle
    }

    /// The file is there as a whole, or as it was before, whatever happens meanwhile.
    func put(_ name: String, _ content: [UInt8], mode: mode_t) throws(InstallationError) -> InstalledFile {
        var record = try readRecord()
        if let identity = Identity(of: file(name)), identity == record[name], identity.mode == mode,
            try InstallationError.content(of: file(name)) == content
        {
            return InstalledFile(path: file(name), change: .unchanged)
        }
        // No runtime reads a name that starts and ends like this. One that a killed installation left is overwritten.
        let temporary = file(".\(name).holdfast-new")
        try write(content, to: temporary, mode: mode)
        // First the record: a file that nobody knows of would stay for ever.
        record[name] = Identity(of: temporary)
        try write(record)
        try rename(temporary, to: name)
        return InstalledFile(path: file(name), change: .written)
    }

    /// Removes what the record has, and the record.
    func removeAll() throws(InstallationError) -> [InstalledFile] {
        var files: [InstalledFile] = []
        for (name, identity) in try readRecord().sorted(by: { $0.key < $1.key }) {
            guard let found = Identity(of: file(name)) else { continue }
            let isOurs = found == identity
            if isOurs, unsafe unlink(file(name)) != 0 { throw InstallationError("removed", file(name)) }
            files.append(InstalledFile(path: file(name), change: isOurs ? .removed : .kept))
        }
        if unsafe unlink(file(Self.recordName)) != 0, errno != ENOENT {
            throw InstallationError("removed", file(Self.recordName))
        }
        try synchronize()
        return files
    }

    private func file(_ name: String) -> String { "\(path)/\(name)" }

    private func write(_ content: [UInt8], to path: String, mode: mode_t) throws(InstallationError) {
        let descriptor = unsafe open(path, O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC, 0o600)
        guard descriptor >= 0 else { throw InstallationError("written", path) }
        defer { close(descriptor) }
        var rest = content[...]
        while !rest.isEmpty {
            let count = unsafe rest.withUnsafeBytes { unsafe Glibc.write(descriptor, $0.baseAddress, $0.count) }
            if count < 0, errno == EINTR { continue }
            guard count > 0 else { throw InstallationError("written", path) }
            rest = rest.dropFirst(count)
        }
        guard fchmod(descriptor, mode) == 0, fsync(descriptor) == 0 else { throw InstallationError("written", path) }
    }

    private func rename(_ temporary: String, to name: String) throws(InstallationError) {
        guard unsafe Glibc.rename(temporary, file(name)) == 0 else { throw InstallationError("replaced", file(name)) }
        try synchronize()
    }

    /// The names are on disk once this returns.
    private func synchronize() throws(InstallationError) {
        guard fsync(handle.fileDescriptor) == 0 else { throw InstallationError("synchronized", path) }
    }
}

// The record: {"holdfast-cni": {"size": 9817344, "modified": "1764000000.123456789", "mode": 493}}.
extension InstallationDirectory {
    private func readRecord() throws(InstallationError) -> [String: Identity] {
        guard FileManager.default.fileExists(atPath: file(Self.recordName)) else { return [:] }
        let content = try InstallationError.content(of: file(Self.recordName))
        // One that cannot be read knows of no file: nothing is removed for its sake.
        let members = (try? JSON(parsing: content))?.object?.members ?? []
        return Dictionary(members.compactMap { member in Identity(member.value).map { (member.key, $0) } }) { $1 }
    }

    private func write(_ record: [String: Identity]) throws(InstallationError) {
        var json = JSONObject()
        for (name, identity) in record.sorted(by: { $0.key < $1.key }) { json[name] = identity.json }
        let temporary = file(Self.recordName + ".holdfast-new")
        try write(Array("\(JSON.object(json))\n".utf8), to: temporary, mode: 0o600)
        try rename(temporary, to: Self.recordName)
    }
}

/// What tells the file that was written from one that was changed since.
private struct Identity: Equatable {
    var size: Int
    /// Seconds since 1970, as decimal text.
    var modified: String
    var mode: mode_t

    /// Nil where there is no such file.
    init?(of path: String) {
        guard let attributes = try? FileManager.default.attributesOfItem(atPath: path),
            let size = attributes[.size] as? Int, let modified = attributes[.modificationDate] as? Date,
            let mode = attributes[.posixPermissions] as? Int
        else { return nil }
        (self.size, self.modified, self.mode) = (size, "\(modified.timeIntervalSince1970)", mode_t(mode))
    }

    init?(_ json: JSON) {
        guard let size = json["size"]?.integer, let modified = json["modified"]?.string,
            let mode = json["mode"]?.integer.flatMap(mode_t.init(exactly:))
        else { return nil }
        (self.size, self.modified, self.mode) = (size, modified, mode)
    }

    var json: JSON {
        ["size": .number("\(size)"), "modified": .string(modified), "mode": .number("\(mode)")]
    }
}
