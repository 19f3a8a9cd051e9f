// SPDX-License-Identifier: Apache-2.0
// A result put together member by member is what core's readers make of the same members as JSON: the short way for
// what every driver sets, and the long way for all else, give the same answers and the same errors.
#include "result_draft.h"

#include "testing.h"

namespace aiolos::testing {
namespace {

struct Member {
  std::string pointer;
  Json value;
};
using Members = std::vector<Member>;

Result<void> put(ResultDraft& draft, const Member& member) {
  if (member.value.is_string())
    return draft.put(member.pointer, std::string_view(member.value.get_ref<const std::string&>()));
  if (member.value.is_boolean()) return draft.put(member.pointer, member.value.get<bool>());
  return draft.put(member.pointer, member.value);
}

/// The outcome as text: the value, or the error.
template <typename T>
std::string outcome(const Result<T>& result) {
  return result ? to_json(*result).dump() : "error: " + describe(result.error());
}

template <typename Take>
std::string built(Wanted wanted, const Members& members, Take take) {
  ResultDraft draft(wanted);
  for (const Member& member : members)
    if (const auto done = put(draft, member); !done) return "error: " + describe(done.error());
  return outcome(take(draft));
}

const auto kAttachment = [](ResultDraft& draft) { return draft.attachment(); };
const auto kAdvice = [](ResultDraft& draft) { return draft.advice(); };

TEST(ResultDraft, AttachmentsAreWhatTheirJsonIs) {
  const Member block{"/source/type", "block"};
  const Member network{"/source/type", "network"};
  const Member path{"/source/path", "/dev/x"};
  const Member rbd{"/source/protocol", "rbd"};
  const std::vector<Members> cases{
      {block, path},
      {path, block, {"/format", "qcow2"}, {"/state/a", 1}, {"/state/b/-", "x"}},
      {block},
      {path},
      {network},
      {network, rbd, {"/source/name", ""}, {"/source/config_file", "/c"}},
      {network, rbd, {"/source/hosts/0/name", "a"}, {"/source/hosts/1/name", "b"}, {"/source/hosts/0/port", "7"}},
      {network, rbd, {"/source/hosts/-/name", "a"}, {"/source/hosts/-/name", "b"}},
      {network, rbd, {"/source/hosts/0/name", "a"}, {"/source/hosts/-/name", "b"}, {"/source/hosts/1/socket", "/s"}},
      {network, rbd, {"/source/hosts/1/name", "a"}},
      {network, rbd, {"/source/hosts/0/nmae", "a"}},
      {network,
       rbd,
       {"/source/auth/username", "u"},
       {"/source/auth/secret_uuid", "s"},
       {"/source/auth/secret_type", "t"}},
      {network, rbd, {"/source/auth/usrname", "u"}},
      {network, rbd, {"/source/auth/username", "u"}, {"/source/auth", "none"}},
      {{"/source/type", "tape"}, path},
      {block, {"/source/type", "tape"}, path},
      {block, {"/source/path", 7}},
      {block, path, {"/source/path", "/dev/y"}},
      {block, path, {"/source/type", "file"}},
      {block, path, {"/surprise", true}},
      {block, path, {"/format", true}},
      {block, path, {"", Json::object()}},
      {{"", Json{{"source", {{"type", "file"}, {"path", "/a"}}}}}, {"/source/path", "/b"}},
      {block, path, {"/source/path/x", "y"}},
      {{"source", "x"}},
      {block, path, {"/source/name", "n"}, {"/source/transport", "x"}},
  };
  for (const Members& members : cases)
    EXPECT_EQ(built(Wanted::attachment, members, kAttachment), built(Wanted::json, members, kAttachment));
}

TEST(ResultDraft, AdviceIsWhatItsJsonIs) {
  const Member threads{"/permitted/-", "threads"};
  const Member native{"/permitted/-", "native"};
  const std::vector<Members> cases{
      {threads, native, {"/preferred", "native"}, {"/reasons/-", "r1"}, {"/reasons/-", "r2"}},
      {{"/preferred", "native"}, native},
      {threads, {"/preferred", "native"}},
      {threads, {"/preferred", "aio"}},
      {{"/permitted/-", "aio"}},
      {{"/permitted/0", "threads"}, {"/permitted/1", "native"}},
      {{"/reasons/-", "nothing permitted"}},
      {{"/effective", false}, {"/reasons/-", "client"}},
      {{"/effective", false}, threads, {"/preferred", "threads"}},
      {{"/effective", "no"}, threads},
      {{"/effective", true}},
      {threads,
       {"/rejected/0/mode", "native"},
       {"/rejected/0/because", "b"},
       {"/rejected/1/mode", "io_uring"},
       {"/rejected/1/because", "c"}},
      {threads, {"/rejected/0/because", "b"}, {"/rejected/0/mode", "native"}},
      {threads, {"/rejected/0/mode", "native"}},
      {threads, {"/rejected/0/mode", "native"}, {"/rejected/1/mode", "io_uring"}},
      {threads, {"/rejected/0/mode", "naitve"}, {"/rejected/0/because", "b"}},
      {threads, {"/rejected/0/mode", "native"}, {"/rejected/0/because", "b"}, {"/rejected/0/because", "c"}},
      {threads, {"/rejected/-", Json{{"mode", "native"}, {"because", "b"}}}},
      {threads, {"/rejected/3/mode", "native"}},
  };
  for (const Members& members : cases)
    EXPECT_EQ(built(Wanted::advice, members, kAdvice), built(Wanted::json, members, kAdvice));
}

TEST(ResultDraft, KnowsWhetherAnythingWasPut) {
  for (const Wanted wanted : {Wanted::json, Wanted::attachment, Wanted::advice}) {
    ResultDraft draft(wanted);
    EXPECT_TRUE(draft.empty());
    EXPECT_TRUE(draft.json().is_null());
    EXPECT_TRUE(draft.put("/format", "raw").has_value());
    EXPECT_FALSE(draft.empty());
  }
}

}  // namespace
}  // namespace aiolos::testing
