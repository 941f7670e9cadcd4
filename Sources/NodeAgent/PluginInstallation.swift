import CNI
import Foundation
import Glibc

/// The plugin and a network's configuration on a node, where the container runtime looks for them.
package struct PluginInstallation: Sendable {
    /// /opt/cni/bin
    private let binaries: String
    /// /etc/cni/net.d
    let configurations: String

    package init(binaries: String, configurations: String) {
        self.binaries = binaries
        self.configurations = configurations
    }

    /// Puts the plugin there, then the configuration, so that no runtime finds a network without its plugin. Each file is
    /// whole at every moment. What is there already, and the same, stays as it is.
    ///
    /// `plugin` and `configuration` are files; the configuration keeps its name. Throws before anything is written where
    /// one of them cannot be used.
    package func install(plugin: String, configuration: String?) throws(InstallationError) -> [InstalledFile] {
        let program = try InstallationError.content(of: plugin)
        guard !program.isEmpty else { throw InstallationError("\(plugin) is empty") }
        try Self.refuseOtherProgram(plugin)
        var network: (name: String, content: [UInt8])?
        if let configuration {
            let content = try InstallationError.content(of: configuration)
            network = (try Self.name(ofNetwork: configuration, content), content)
        }
        var files = [
            try InstallationDirectory(binaries).put(NetworkConfiguration.pluginType, program, mode: 0o755)
        ]
        if let network {
            files.append(try InstallationDirectory(configurations).put(network.name, network.content, mode: 0o644))
        }
        return files
    }

    /// Takes away what `install` wrote there, configurations first. What somebody has changed since stays.
    package func uninstall() throws(InstallationError) -> [InstalledFile] {
        var files: [InstalledFile] = []
        for path in [configurations, binaries] where FileManager.default.fileExists(atPath: path) {
            files += try InstallationDirectory(path).removeAll()
        }
        return files
    }

    /// Throws unless the program says of itself what this plugin says: other plugins speak older versions, too.
    private static func refuseOtherProgram(_ path: String) throws(InstallationError) {
        let (process, output, ended) = (Process(), Pipe(), DispatchSemaphore(value: 0))
        process.executableURL = URL(filePath: path)
        process.environment = ["CNI_COMMAND": Invocation.Verb.version.rawValue]
        process.standardInput = FileHandle.nullDevice
        process.standardOutput = output
        process.standardError = FileHandle.nullDevice
        process.terminationHandler = { _ in ended.signal() }
        do {
            try process.run()
        } catch {
            throw InstallationError("\(path) cannot be run: \(error.localizedDescription)")
        }
        guard ended.wait(timeout: .now() + 10) == .success else {
            kill(process.processIdentifier, SIGKILL)
            throw InstallationError("\(path) does not answer when it is asked for its version")
        }
        let answer = try? JSON(parsing: Array(output.fileHandleForReading.availableData))
        guard answer?["supportedVersions"] == .array(CNIVersion.allCases.map { .string($0.rawValue) }) else {
            throw InstallationError("\(path) does not say that it is \(NetworkConfiguration.pluginType)")
        }
    }

    static func isNetwork(_ name: String) -> Bool {
        name.split(separator: ".").last.map { ["conf", "conflist", "json"].contains($0) } ?? false
    }

    /// The file's name, if a runtime would read it as a network that names this plugin.
    private static func name(ofNetwork path: String, _ content: [UInt8]) throws(InstallationError) -> String {
        let name = path.split(separator: "/").last.map(String.init) ?? ""
        guard isNetwork(name) else {
            throw InstallationError("\(path) ends neither in .conflist nor in .conf: no runtime reads it")
        }
        let json: JSON
        do {
            json = try JSON(parsing: content)
        } catch {
            throw InstallationError("\(path) is not JSON: \(error)")
        }
        guard var list = json.object else { throw InstallationError("\(path) is no JSON object") }
        let plugins = list["plugins"]?.array ?? [json]
        list["plugins"] = nil
        for plugin in plugins {
            guard var object = plugin.object, object.namesThisPlugin else { continue }
            // As a runtime derives what the plugin gets (CNI 1.1, section 3).
            object["name"] = list["name"]
            object["cniVersion"] = list.newestVersion
            do {
                try NetworkConfiguration(object).refuseAnotherIPAM()
            } catch {
                throw InstallationError("\(path) does not work: \(error.message). \(error.details)")
            }
            return name
        }
        throw InstallationError("\(path) has no plugin that is, or has as \"ipam\", \(NetworkConfiguration.pluginType)")
    }
}

/// What became of one file.
package struct InstalledFile: Hashable, Sendable, CustomStringConvertible {
    package enum Change: String, Hashable, Sendable {
        case written
        /// It was there, just so.
        case unchanged
        case removed
        /// It is not what was written there, and stays.
        case kept = "not what was written there, kept"
    }

    package var path: String
    package var change: Change

    package var description: String { "\(path): \(change.rawValue)" }
}

/// Why an installation did not come about: a sentence.
package struct InstallationError: Error, Hashable, Sendable, CustomStringConvertible {
    package var description: String

    init(_ description: String) { self.description = description }

    /// The last system call's failure.
    init(_ action: String, _ path: String) {
        description = "\(path) cannot be \(action): \(unsafe String(cString: strerror(errno)))"
    }

    static func content(of path: String) throws(InstallationError) -> [UInt8] {
        do {
            return Array(try Data(contentsOf: URL(filePath: path)))
        } catch {
            throw InstallationError("\(path) cannot be read: \(error.localizedDescription)")
        }
    }
}

extension PluginInstallation {
    /// Whether the program at `path` needs a dynamic linker, and so libraries that a node may not have: an ELF file with
    /// a PT_INTERP segment (elf(5)).
    package static func needsLibraries(plugin path: String) -> Bool {
        guard let program = try? InstallationError.content(of: path),
            program.starts(with: [0x7f, 0x45, 0x4c, 0x46, 2, 1])
        else { return false }
        func number(at offset: Int, bytes: Int) -> Int {
            guard offset >= 0, offset + bytes <= program.count else { return 0 }
            return program[offset..<offset + bytes].reversed().reduce(0) { $0 << 8 | Int($1) }
        }
        let (start, size, count) = (number(at: 32, bytes: 6), number(at: 54, bytes: 2), number(at: 56, bytes: 2))
        return (0..<count).contains { number(at: start + $0 * size, bytes: 4) == 3 }
    }
}

extension JSONObject {
    /// The version that a runtime speaks on this network: of `cniVersion` and `cniVersions` the newest that is known.
    fileprivate var newestVersion: JSON? {
        let others = self["cniVersions"]?.array ?? []
        let known = ([self["cniVersion"]] + others).compactMap { $0?.string.flatMap(CNIVersion.init) }.max()
        return others.isEmpty ? self["cniVersion"] : known.map { .string($0.rawValue) } ?? others.last
    }

    var namesThisPlugin: Bool {
        self["type"]?.string == NetworkConfiguration.pluginType
            || self["ipam"]?["type"]?.string == NetworkConfiguration.pluginType
    }
}
