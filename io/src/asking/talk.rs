//! A query by TCP (RFC 7766): one message each way, its length before it (RFC 1035 4.2.2).
use crate::sys::socket;
use socket2::Socket;
use std::io::{self, Read, Write};
use std::net::SocketAddr;

/// Octets of a message's length.
const LENGTH: usize = 2;
/// Octets read at once.
const PIECE: usize = 4_096;

/// See the module.
#[derive(Debug)]
pub(super) struct Talk {
    pub(super) socket: Socket,
    /// What is to be sent, from `sent` on.
    query: Vec<u8>,
    sent: usize,
    answer: Vec<u8>,
}

impl Talk {
    /// Connects; what is asked goes as soon as that is done.
    ///
    /// # Errors
    /// There is no way to it, or the message is longer than 65,535 octets.
    pub(super) fn new(resolver: SocketAddr, message: &[u8]) -> io::Result<Self> {
        let len = u16::try_from(message.len()).map_err(|_| io::ErrorKind::InvalidInput)?;
        let (socket, _) = socket::connect_stream(resolver, None)?;
        let query = [&len.to_be_bytes(), message].concat();
        Ok(Self { socket, query, sent: 0, answer: Vec::new() })
    }

    /// Sends and reads what can be now: the answer once all of it is there, without its length. What comes behind it is not read.
    ///
    /// # Errors
    /// The connection could not be, or has ended before; `WouldBlock` where it is to be waited for.
    pub(super) fn go(&mut self) -> io::Result<Vec<u8>> {
        while let Some(rest) = self.query.get(self.sent..).filter(|rest| !rest.is_empty()) {
            match (&self.socket).write(rest) {
                Ok(octets) => self.sent += octets,
                // So a socket says that is not connected yet.
                Err(error) if error.kind() == io::ErrorKind::NotConnected => return Err(io::ErrorKind::WouldBlock.into()),
                Err(error) => return Err(error),
            }
        }
        loop {
            let wanted = LENGTH + self.answer.first_chunk().map_or(0, |len| usize::from(u16::from_be_bytes(*len)));
            if self.answer.len() >= wanted && wanted > LENGTH {
                return Ok(self.answer.split_off(LENGTH));
            }
            let mut piece = [0; PIECE];
            let room = (wanted - self.answer.len().min(wanted)).min(PIECE);
            let Some(place) = piece.get_mut(..room).filter(|place| !place.is_empty()) else {
                // A message of no octets.
                return Err(io::ErrorKind::InvalidData.into());
            };
            match (&self.socket).read(place)? {
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                octets => self.answer.extend_from_slice(piece.get(..octets).unwrap_or_default()),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{Ipv4Addr, TcpListener, TcpStream};
    use std::time::{Duration, Instant};

    fn waits(error: &io::Error) -> bool {
        error.kind() == io::ErrorKind::WouldBlock
    }

    /// Goes on until there is an end; the other end does `say` meanwhile.
    fn talk(say: impl FnOnce(TcpStream) + Send + 'static) -> io::Result<Vec<u8>> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let mut talk = Talk::new(listener.local_addr().unwrap(), b"query").unwrap();
        let server = std::thread::spawn(move || say(listener.accept().unwrap().0));
        let until = Instant::now() + Duration::from_secs(20);
        let said = loop {
            match talk.go() {
                Err(error) if waits(&error) && Instant::now() < until => std::thread::sleep(Duration::from_millis(1)),
                said => break said,
            }
        };
        drop(talk);
        server.join().unwrap();
        said
    }

    fn listen(stream: &mut TcpStream) {
        let mut query = [0; 7];
        stream.read_exact(&mut query).unwrap();
        assert_eq!(&query, b"\0\x05query");
    }

    #[test]
    fn an_answer_is_read_in_pieces_however_long() {
        let long = vec![7; 65_535];
        let expected = long.clone();
        let said = talk(move |mut stream| {
            listen(&mut stream);
            for piece in [&b"\xff"[..], b"\xff", &long[..1], &long[1..]] {
                stream.write_all(piece).unwrap();
                std::thread::sleep(Duration::from_millis(3));
            }
        });
        assert_eq!(said.unwrap(), expected);
    }

    #[test]
    fn what_ends_before_is_no_answer() {
        for (said, expected) in [
            (&b""[..], io::ErrorKind::UnexpectedEof),
            (b"\0", io::ErrorKind::UnexpectedEof),
            (b"\0\x03an", io::ErrorKind::UnexpectedEof),
            (b"\0\0", io::ErrorKind::InvalidData),
        ] {
            let came = talk(move |mut stream| {
                listen(&mut stream);
                stream.write_all(said).unwrap();
            });
            assert_eq!(came.unwrap_err().kind(), expected, "{said:?}");
        }
    }

    #[test]
    fn nobody_there_is_an_error() {
        let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap();
        let until = Instant::now() + Duration::from_secs(20);
        let mut talk = match Talk::new(port, b"query") {
            Ok(talk) => talk,
            Err(error) => return assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused),
        };
        let error = loop {
            match talk.go() {
                Err(error) if waits(&error) && Instant::now() < until => std::thread::sleep(Duration::from_millis(1)),
                said => break said.unwrap_err(),
            }
        };
        assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
        assert!(Talk::new(port, &[0; 65_536]).is_err());
    }
}
