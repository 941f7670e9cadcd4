import CNI
import Foundation
import Testing

@testable import NodeAgent

/// What `holdfast-agent install` and `uninstall` do to a node's directories.
final class InstallationTests {
    private let scratch = "/tmp/holdfast-test-\(UUID().uuidString.prefix(8).lowercased())"
    private var binaries: String { scratch + "/opt/cni/bin" }
    private var networks: String { scratch + "/etc/cni/net.d" }
    private var installation: PluginInstallation { PluginInstallation(binaries: binaries, configurations: networks) }
    private let network = #"{"cniVersion":"1.0.0","name":"n","plugins":[{"type":"b","ipam":{"type":"holdfast-cni"}}]}"#

    /// One that answers VERSION as the plugin does.
    private let program = """
        #!/bin/sh
        echo '{"cniVersion":"1.1.0","supportedVersions":["0.3.0","0.3.1","0.4.0","1.0.0","1.1.0"]}'

        """

    init() throws {
        try FileManager.default.createDirectory(atPath: scratch, withIntermediateDirectories: true)
        try write(program: program, to: "holdfast-cni")
        try Data(network.utf8).write(to: URL(filePath: scratch + "/10-n.conflist"))
    }

    deinit { try? FileManager.default.removeItem(atPath: scratch) }

    private func write(program: String, to name: String) throws {
        try Data(program.utf8).write(to: URL(filePath: "\(scratch)/\(name)"))
        try FileManager.default.setAttributes([.posixPermissions: 0o755], ofItemAtPath: "\(scratch)/\(name)")
    }

    private func install(configuration: String? = "10-n.conflist") throws -> [InstalledFile.Change] {
        try installation.install(
            plugin: scratch + "/holdfast-cni", configuration: configuration.map { "\(scratch)/\($0)" }
        ).map(\.change)
    }

    private func content(_ path: String) -> String? {
        FileManager.default.contents(atPath: path).map { String(decoding: $0, as: UTF8.self) }
    }

    private func mode(_ path: String) throws -> Int {
        try #require(FileManager.default.attributesOfItem(atPath: path)[.posixPermissions] as? Int)
    }

    private func names(_ directory: String) throws -> [String] {
        try FileManager.default.contentsOfDirectory(atPath: directory).sorted()
    }

    @Test func `plugin and network are there, for all to read and for root to change, and twice is once`() throws {
        #expect(try install() == [.written, .written])
        #expect(content(binaries + "/holdfast-cni") == program && content(networks + "/10-n.conflist") == network)
        #expect(try mode(binaries + "/holdfast-cni") == 0o755 && mode(networks + "/10-n.conflist") == 0o644)
        let inode =
            try FileManager.default.attributesOfItem(atPath: binaries + "/holdfast-cni")[.systemFileNumber] as? Int
        #expect(try install() == [.unchanged, .unchanged])
        #expect(
            try FileManager.default.attributesOfItem(atPath: binaries + "/holdfast-cni")[.systemFileNumber] as? Int
                == inode)
    }

    @Test func `uninstall removes just what install wrote`() throws {
        try FileManager.default.createDirectory(atPath: binaries, withIntermediateDirectories: true)
        try Data("other".utf8).write(to: URL(filePath: binaries + "/bridge"))
        _ = try install()
        try Data("own".utf8).write(to: URL(filePath: networks + "/20-own.conflist"))
        #expect(try installation.uninstall().map(\.change) == [.removed, .removed])
        #expect(try names(binaries) == ["bridge"] && names(networks) == ["20-own.conflist"])
        #expect(try installation.uninstall() == [])
    }

    @Test func `a plugin that another hand put there is not removed`() throws {
        try FileManager.default.createDirectory(atPath: binaries, withIntermediateDirectories: true)
        try Data("by hand".utf8).write(to: URL(filePath: binaries + "/holdfast-cni"))
        #expect(try installation.uninstall() == [])
        #expect(content(binaries + "/holdfast-cni") == "by hand")
    }

    @Test func `what was changed since is kept and named`() throws {
        _ = try install()
        let changed = network.replacing("\"n\"", with: "\"m\"")
        try Data(changed.utf8).write(to: URL(filePath: networks + "/10-n.conflist"), options: .atomic)
        #expect(try installation.uninstall().map(\.change) == [.kept, .removed])
        #expect(content(networks + "/10-n.conflist") == changed)
    }

    @Test func `uninstall where nothing was ever installed makes no directories`() throws {
        #expect(try installation.uninstall() == [])
        #expect(!FileManager.default.fileExists(atPath: scratch + "/opt"))
    }

    @Test func `a file that a killed installation left half written is in nobody's way`() throws {
        try FileManager.default.createDirectory(atPath: binaries, withIntermediateDirectories: true)
        try Data("half".utf8).write(to: URL(filePath: binaries + "/.holdfast-cni.holdfast-new"))
        _ = try install()
        #expect(try names(binaries) == [".holdfast-agent.installed", "holdfast-cni"])
        #expect(content(binaries + "/holdfast-cni") == program)
    }

    @Test(arguments: [
        "no program", "#!/bin/sh\n", "#!/bin/sh\nexit 1\n",
        "#!/bin/sh\necho '{\"cniVersion\":\"1.1.0\",\"supportedVersions\":[\"0.1.0\",\"0.2.0\",\"0.3.1\",\"1.0.0\"]}'\n",
    ])
    func `a program that is not the plugin does not replace it`(other: String) throws {
        _ = try install()
        try write(program: other, to: "holdfast-cni")
        #expect(throws: InstallationError.self) { try install() }
        #expect(content(binaries + "/holdfast-cni") == program)
    }

    @Test(arguments: [
        ("missing.conflist", nil), ("10-n.yaml", "{}"), ("bad.conflist", "{"), ("list.conflist", "[]"),
        ("other.conflist", #"{"cniVersion":"1.0.0","name":"n","plugins":[{"type":"bridge"}]}"#),
        ("version.conflist", #"{"cniVersion":"9.0.0","name":"n","plugins":[{"ipam":{"type":"holdfast-cni"}}]}"#),
        ("delegate.conf", #"{"cniVersion":"1.0.0","name":"n","type":"holdfast-cni"}"#),
        (
            "two.conf",
            #"{"cniVersion":"1.0.0","name":"n","type":"holdfast-cni","ipam":{"type":"whereabouts"},"delegate":{"type":"b"}}"#
        ),
    ])
    func `a network that cannot work is refused before anything is written`(name: String, content: String?) throws {
        if let content { try Data(content.utf8).write(to: URL(filePath: "\(scratch)/\(name)")) }
        #expect {
            try install(configuration: name)
        } throws: { error in
            "\(error)".contains("/\(name)")
        }
        #expect(!FileManager.default.fileExists(atPath: binaries))
    }

    @Test func `keys without effect, and another network file that names the plugin, are remarked on`() throws {
        let main =
            #"{"cniVersion":"1.0.0","name":"n","type":"holdfast-cni","pol":"vms","ipMasq":true,"cni.dev/x":1,"mtu":1,"#
            + #""capabilities":{"ips":true},"delegate":{"type":"b","any":1,"capabilities":{"mac":true,"ips":true,"x":true}}}"#
        try Data(main.utf8).write(to: URL(filePath: scratch + "/20-n.conf"))
        _ = try install()
        try Data("{}".utf8).write(to: URL(filePath: networks + "/99-other.conf"))
        #expect(try installation.remarks(on: scratch + "/10-n.conflist") == [])
        #expect(
            try installation.remarks(on: scratch + "/20-n.conf") == [
                "\(scratch)/20-n.conf: \"pol\" has no effect: it is no key of holdfast-cni",
                "\(scratch)/20-n.conf: \"ipMasq\" has no effect: it is no key of holdfast-cni",
                "\(scratch)/20-n.conf: \"mtu\" has no effect: it is no key of holdfast-cni",
                "\(scratch)/20-n.conf: no runtime sees the capability \"x\" in \"delegate\": declare it beside it",
                "\(networks)/10-n.conflist names holdfast-cni, too, and stays: "
                    + "remove it if it is an older name of this network",
            ])
        let ipam = #"{"cniVersion":"1.0.0","name":"n","type":"b","x":1,"ipam":{"type":"holdfast-cni","Pool":"vms"}}"#
        try Data(ipam.utf8).write(to: URL(filePath: scratch + "/10-n.conflist"))
        #expect(try installation.remarks(on: scratch + "/10-n.conflist").count == 1)
    }

    @Test(arguments: [#""cniVersions":["0.4.0","1.0.0","9.0.0"]"#, #""cniVersion":"0.2.0","cniVersions":["1.1.0"]"#])
    func `a network may list its versions, of which one must be known`(versions: String) throws {
        let list = network.replacing(#""cniVersion":"1.0.0""#, with: versions)
        try Data(list.utf8).write(to: URL(filePath: scratch + "/10-n.conflist"))
        #expect(try install() == [.written, .written])
        let other = network.replacing(#""cniVersion":"1.0.0""#, with: #""cniVersions":["9.0.0"]"#)
        try Data(other.utf8).write(to: URL(filePath: scratch + "/10-n.conflist"))
        #expect(throws: InstallationError.self) { try install() }
    }

    @Test func `a reader finds a whole file at every moment, while several install others over it`() async throws {
        let programs = (0..<3).map { program + "# " + String(repeating: "\($0)", count: 300_000 + $0) }
        for (number, program) in programs.enumerated() { try write(program: program, to: "program-\(number)") }
        _ = try installation.install(plugin: "\(scratch)/program-0", configuration: nil)
        let isDone = HandlerFixture.Flag()
        let (installation, scratch, path) = (installation, scratch, binaries + "/holdfast-cni")
        try await withThrowingTaskGroup(of: Int.self) { tasks in
            tasks.addTask {
                var reads = 0
                while !isDone.isSet {
                    let data = try Data(contentsOf: URL(filePath: path))
                    try #require(programs.contains(String(decoding: data, as: UTF8.self)), "\(data.count) bytes")
                    reads += 1
                }
                return reads
            }
            try await withThrowingTaskGroup(of: Void.self) { writers in
                for writer in 0..<2 {
                    writers.addTask {
                        for round in 0..<10 {
                            _ = try installation.install(
                                plugin: "\(scratch)/program-\((writer + round) % 3)", configuration: nil)
                        }
                    }
                }
                try await writers.waitForAll()
            }
            isDone.set(true)
            let reads = try await tasks.next() ?? 0
            #expect(reads > 0)
        }
        #expect(try installation.uninstall().map(\.change) == [.removed])
    }
}
