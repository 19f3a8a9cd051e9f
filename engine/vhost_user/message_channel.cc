// SPDX-License-Identifier: Apache-2.0
#include "message_channel.h"

#include <fmt/format.h>
#include <sys/socket.h>

#include <cerrno>
#include <utility>

#include "aiolos/core/posix.h"

namespace aiolos::engine {
namespace {

/// Descriptors of one message: as many as a memory table has regions.
constexpr std::size_t kMostFds = kMemTableRegions;

tl::unexpected<Error> bad(std::string what) {
  return fail(ErrorKind::bad_input, std::move(what), "connect a vhost-user front end, such as QEMU, to this socket");
}

void keep_fds(msghdr& header, std::vector<UniqueFd>& fds) {
  for (cmsghdr* part = CMSG_FIRSTHDR(&header); part; part = CMSG_NXTHDR(&header, part)) {
    if (part->cmsg_level != SOL_SOCKET || part->cmsg_type != SCM_RIGHTS) continue;
    for (std::size_t offset = 0; offset + sizeof(int) <= part->cmsg_len - CMSG_LEN(0); offset += sizeof(int)) {
      int fd = -1;
      std::memcpy(&fd, CMSG_DATA(part) + offset, sizeof(fd));
      fds.emplace_back(fd);
    }
  }
}

}  // namespace

Result<std::optional<Message>> MessageChannel::receive() {
  const auto complete = [](Result<bool> more) { return more && *more; };
  auto more = read_more(sizeof(MessageHeader));
  if (complete(more)) {
    const MessageHeader& header = partial_.header;
    if ((header.flags & kVersionMask) != kVersion || header.size > partial_.payload.size())
      return bad(
          fmt::format("vhost-user message {} of {} bytes with flags {:#x}", header.request, header.size, header.flags));
    more = read_more(sizeof(MessageHeader) + header.size);
  }
  if (!more) return tl::unexpected(more.error());
  if (!*more) return std::nullopt;
  got_ = 0;
  return std::exchange(partial_, Message{});
}

/// Reads until `until` bytes of the message are here. @return whether they are.
Result<bool> MessageChannel::read_more(std::size_t until) {
  while (got_ < until) {
    std::byte* const to = got_ < sizeof(MessageHeader) ? reinterpret_cast<std::byte*>(&partial_.header) + got_
                                                       : partial_.payload.data() + (got_ - sizeof(MessageHeader));
    iovec part{to, until - got_};
    alignas(cmsghdr) char control[CMSG_SPACE(kMostFds * sizeof(int))];
    msghdr header{};
    header.msg_iov = &part;
    header.msg_iovlen = 1;
    header.msg_control = control;
    header.msg_controllen = sizeof(control);
    const ssize_t got = ::recvmsg(socket_.get(), &header, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0 && errno == EAGAIN) return false;
    if (got <= 0)
      return fail(ErrorKind::retry,
                  got == 0 ? "the front end has closed the connection" : "lost the front end: " + errno_text(errno),
                  "start the guest again, or wait for its QEMU to reconnect");
    keep_fds(header, partial_.fds);
    if ((header.msg_flags & MSG_CTRUNC) != 0 || partial_.fds.size() > kMostFds) return bad("too many descriptors");
    got_ += static_cast<std::size_t>(got);
  }
  return true;
}

Result<void> MessageChannel::send(const Message& message) {
  iovec parts[] = {{const_cast<MessageHeader*>(&message.header), sizeof(MessageHeader)},
                   {const_cast<std::byte*>(message.payload.data()), message.header.size}};
  alignas(cmsghdr) char control[CMSG_SPACE(kMostFds * sizeof(int))]{};
  msghdr header{};
  header.msg_iov = parts;
  header.msg_iovlen = 2;
  if (!message.fds.empty()) {
    header.msg_control = control;
    header.msg_controllen = CMSG_SPACE(message.fds.size() * sizeof(int));
    cmsghdr* const rights = CMSG_FIRSTHDR(&header);
    rights->cmsg_level = SOL_SOCKET;
    rights->cmsg_type = SCM_RIGHTS;
    rights->cmsg_len = CMSG_LEN(message.fds.size() * sizeof(int));
    for (std::size_t i = 0; i < message.fds.size(); ++i) {
      const int fd = message.fds[i].get();
      std::memcpy(CMSG_DATA(rights) + i * sizeof(int), &fd, sizeof(fd));
    }
  }
  const std::size_t size = sizeof(MessageHeader) + message.header.size;
  ssize_t sent = 0;
  do sent = ::sendmsg(socket_.get(), &header, MSG_NOSIGNAL | MSG_DONTWAIT);
  while (sent < 0 && errno == EINTR);
  if (sent == static_cast<ssize_t>(size)) return {};
  return fail(ErrorKind::retry,
              "the front end takes no answer: " + (sent < 0 ? errno_text(errno) : std::string("its socket is full")),
              "start the guest again, or wait for its QEMU to reconnect");
}

}  // namespace aiolos::engine
