import CNI
import Syscalls

/// One exchange with the agent over its unix socket.
struct AgentConnection: ~Copyable {
    private let stream: UnixStream
    private let deadline: Deadline

    init(socket path: String, deadline: Deadline) throws(StreamError) {
        self.deadline = deadline
        // Bounds connecting to an agent that takes no more connections, and writing to one that does not read.
        stream = try UnixStream(connectingTo: path, patience: deadline.remaining)
    }

    consuming func post(_ path: String, body: [UInt8]) throws(StreamError) -> AgentReply {
        try stream.send(HTTPMessage("POST \(path) HTTP/1.1", body: body).bytes)
        let answer: HTTPMessage?
        do throws(HTTPMessageError) {
            answer = try HTTPMessage(from: stream, by: deadline)
        } catch {
            throw StreamError("\(error)")
        }
        guard let answer else { throw StreamError("it closed the connection before an answer") }
        let words = answer.startLine.split(separator: " ")
        guard words.count >= 2, words[0].hasPrefix("HTTP/1."), let status = Int(words[1]) else {
            throw StreamError("it does not speak HTTP")
        }
        return AgentReply(status: status, body: answer.body)
    }
}
