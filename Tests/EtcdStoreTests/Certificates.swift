import Foundation
import RPC

/// An authority, and certificates by it for a server on loopback and for a client; made by openssl.
struct Certificates {
    private let folder: URL

    init(in folder: URL) throws {
        self.folder = folder
        try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
        try Data("subjectAltName=DNS:localhost,IP:127.0.0.1\n".utf8).write(to: folder.appending(path: "names"))
        let key = "-newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes"
        try openssl("req -x509 \(key) -days 2 -subj /CN=ca -keyout ca.key -out ca.pem")
        for name in ["server", "client"] {
            try openssl("req \(key) -subj /CN=\(name) -keyout \(name).key -out \(name).csr")
            try openssl(
                "x509 -req -days 2 -in \(name).csr -CA ca.pem -CAkey ca.key -CAcreateserial -extfile names -out "
                    + "\(name).pem")
        }
    }

    func path(_ name: String) -> String { folder.appending(path: name).path }
    func pem(_ name: String) throws -> String { try String(contentsOfFile: path(name), encoding: .utf8) }

    /// Of the client.
    func credentials() throws -> ChannelCredentials {
        .tls(
            roots: try pem("ca.pem"), certificateChain: try pem("client.pem"), privateKey: try pem("client.key"))
    }

    private func openssl(_ arguments: String) throws {
        let process = Process()
        process.executableURL = URL(filePath: "/usr/bin/openssl")
        process.arguments = arguments.split(separator: " ").map(String.init)
        process.currentDirectoryURL = folder
        process.standardError = FileHandle.nullDevice
        try process.run()
        process.waitUntilExit()
        if process.terminationStatus != 0 { throw Failure("openssl \(arguments) failed") }
    }
}
