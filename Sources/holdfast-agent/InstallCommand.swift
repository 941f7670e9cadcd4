import ArgumentParser
import Foundation
import NodeAgent
import Program

/// Where the container runtime looks for plugins and networks.
struct RuntimeDirectories: ParsableArguments {
    static let variables = ["cni-bin-dir", "cni-conf-dir"]

    @Option(help: "The container runtime's directory of plugins.")
    var cniBinDir = "/opt/cni/bin"

    @Option(help: "The container runtime's directory of networks.")
    var cniConfDir = "/etc/cni/net.d"

    var installation: PluginInstallation { PluginInstallation(binaries: cniBinDir, configurations: cniConfDir) }
}

/// `holdfast-agent install`.
struct InstallCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "holdfast-agent install",
        abstract: "Puts the CNI plugin holdfast-cni, and a network's configuration, where the container runtime looks.",
        discussion: """
            Each file is whole at every moment, also while a kubelet runs; a second time changes nothing. What was put there \
            `holdfast-agent uninstall` takes away.
            """)

    static let variables = RuntimeDirectories.variables + ["conf", "plugin"]

    @OptionGroup var directories: RuntimeDirectories

    @Option(help: "A network's configuration (.conflist or .conf), installed under the name that it has. Else none is.")
    var conf: String?

    @Option(help: "The plugin, a static executable. Else the holdfast-cni beside this program.")
    var plugin: String?

    func run() async throws {
        let program = try plugin ?? ownPlugin
        var warnings: [String] = []
        if PluginInstallation.needsLibraries(plugin: program) {
            warnings.append("\(program) is not static: it runs only where its libraries are")
        }
        do {
            for file in try directories.installation.install(plugin: program, configuration: conf) { print(file) }
            if let conf { warnings += try directories.installation.remarks(on: conf) }
            for warning in warnings { StandardError.write(Array("warning: \(warning)\n".utf8)) }
        } catch {
            throw Failure("\(error)", hint: "nothing is half installed: repeat it when that is mended")
        }
    }

    private var ownPlugin: String {
        get throws {
            let path = Bundle.main.executableURL?.deletingLastPathComponent().appending(path: "holdfast-cni").path ?? ""
            guard FileManager.default.isReadableFile(atPath: path) else {
                throw Failure("there is no holdfast-cni beside this program", hint: "name it with --plugin")
            }
            return path
        }
    }
}

/// `holdfast-agent uninstall`.
struct UninstallCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "holdfast-agent uninstall",
        abstract: "Takes away what `holdfast-agent install` put there, and nothing else.",
        discussion: "A file that was changed since stays, and is named.")

    static let variables = RuntimeDirectories.variables

    @OptionGroup var directories: RuntimeDirectories

    func run() async throws {
        do {
            for file in try directories.installation.uninstall() { print(file) }
        } catch {
            throw Failure("\(error)", hint: "repeat it when that is mended")
        }
    }
}
