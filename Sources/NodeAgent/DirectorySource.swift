import FoundationEssentials
import Glibc
import KubeVirt
package import Logging
import Synchronization

/// A directory of manifests that stands for the API server: one object in each `.json`, `.yaml` or `.yml` file.
///
/// Hidden files are passed over, so that a writer can make `.web.yaml` and rename it. A file that cannot be read is
/// logged by name and makes the reading incomplete; the others are read all the same.
package final class DirectorySource: ObjectSource {
    private let path: String
    private let log: Logger
    private let known: Mutex<Known>

    package init(path: String, log: Logger) {
        self.path = path
        self.log = log
        known = Mutex(Known(watch: DirectoryWatch(path: path)))
    }

    /// What was read last.
    private struct Known: ~Copyable {
        var watch: DirectoryWatch
        var files: [String: File] = [:]
        var isUnreadable = false
        var reading: Reading?
        var readAt = ContinuousClock.now
    }

    /// A change that the directory's watch does not show, as through another name of a file, is seen after this.
    private static let longestTrust = Duration.seconds(1)

    /// A file as it was read last.
    private struct File {
        var stamp: ManifestStamp
        /// Nil where it was none.
        var object: ClusterObject?
        /// Read long enough after its last change that a later change must show in its stamp.
        var isSettled: Bool
    }

    package func read() async -> Reading {
        known.withLock { known in
            if let reading = known.reading, .now - known.readAt < Self.longestTrust, !known.watch.mayHaveChanged() {
                return reading
            }
            known.watch.begin()
            known.readAt = .now
            let reading = read(&known)
            known.reading = reading.isComplete ? reading : nil
            return reading
        }
    }

    private func read(_ known: inout Known) -> Reading {
        var reading = Reading(objects: ClusterObjects(), isComplete: true)
        do {
            var files: [String: File] = [:]
            for name in try FileManager.default.contentsOfDirectory(atPath: path).filter(Self.isManifest).sorted() {
                let file = file(named: name, known: known.files[name])
                files[name] = file
                if let object = file?.object { reading.objects.insert(object) } else { reading.isComplete = false }
            }
            (known.files, known.isUnreadable) = (files, false)
        } catch {
            if !known.isUnreadable {
                let reason = unsafe access(path, R_OK | X_OK) == 0 ? "\(error)" : String(cString: strerror(errno))
                log.error(
                    "the directory of manifests cannot be read: no pod is attached and nothing is freed until it can",
                    metadata: ["path": "\(path)", "reason": "\(reason)"])
            }
            known.isUnreadable = true
            reading = Reading(objects: ClusterObjects(), isComplete: false)
        }
        return reading
    }

    private static func isManifest(_ name: String) -> Bool {
        !name.hasPrefix(".") && [".json", ".yaml", ".yml"].contains { name.hasSuffix($0) }
    }

    /// Nil where the file has gone since it was listed: it may have been renamed.
    private func file(named name: String, known: File?) -> File? {
        guard let stamp = ManifestStamp(path: "\(path)/\(name)") else { return nil }
        if let known, known.isSettled, known.stamp == stamp { return known }
        let isSettled = time(nil) - stamp.changedAt > 1
        do {
            let content = try Data(contentsOf: URL(filePath: "\(path)/\(name)"))
            return File(stamp: stamp, object: try ClusterObject(manifest: content), isSettled: isSettled)
        } catch {
            if known?.object != nil || known?.stamp != stamp {
                log.warning(
                    "a manifest cannot be read: no deleted VM's address is freed until it can, or is removed",
                    metadata: ["file": "\(path)/\(name)", "error": "\(error)"])
            }
            return File(stamp: stamp, object: nil, isSettled: isSettled)
        }
    }
}
