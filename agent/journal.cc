// SPDX-License-Identifier: Apache-2.0
#include "journal.h"

#include <fcntl.h>
#include <unistd.h>

#include <array>
#include <cctype>
#include <cerrno>
#include <chrono>
#include <filesystem>
#include <mutex>
#include <thread>

#include <SQLiteCpp/SQLiteCpp.h>
#include <SQLiteCpp/VariadicBind.h>
#include <fmt/chrono.h>
#include <fmt/format.h>
#include <sqlite3.h>

#include "aiolos/core/posix.h"

namespace aiolos {
namespace {

constexpr int kSchemaVersion = 4;
// Another process holds the write lock only for one small transaction; longer means that something is wrong.
constexpr std::chrono::milliseconds kBusyTimeout = std::chrono::seconds(10);

constexpr const char* kSchema = R"(
CREATE TABLE attachments (
  id INTEGER PRIMARY KEY AUTOINCREMENT,
  hypervisor TEXT NOT NULL,
  domain_uuid TEXT NOT NULL,
  domain_name TEXT NOT NULL,
  target TEXT NOT NULL,
  volume_type TEXT NOT NULL,
  serial TEXT NOT NULL,
  connection_info TEXT NOT NULL,
  disk_info TEXT NOT NULL,
  attachment TEXT NOT NULL DEFAULT 'null',
  disk_xml TEXT NOT NULL DEFAULT '',
  state TEXT NOT NULL,
  created TEXT NOT NULL,
  changed TEXT NOT NULL
);
-- One live volume a target: two processes that attach to the same target at once cannot both get here.
CREATE UNIQUE INDEX live_target ON attachments (hypervisor, domain_uuid, target) WHERE state <> 'closed';
CREATE TABLE steps (
  id INTEGER PRIMARY KEY AUTOINCREMENT,
  attachment INTEGER NOT NULL REFERENCES attachments (id),
  step TEXT NOT NULL,
  phase TEXT NOT NULL CHECK (phase IN ('intent', 'done', 'failed')),
  error TEXT,
  begun TEXT NOT NULL,
  ended TEXT
);
CREATE INDEX steps_of ON steps (attachment);
)";

/// What schema 2 added: what drivers do within a step, and what volumes share.
constexpr const char* kSchema2 = R"(
CREATE TABLE effects (
  id INTEGER PRIMARY KEY AUTOINCREMENT,
  step INTEGER NOT NULL REFERENCES steps (id),
  what TEXT NOT NULL,
  phase TEXT NOT NULL CHECK (phase IN ('intent', 'done')),
  begun TEXT NOT NULL,
  ended TEXT
);
CREATE INDEX effects_of ON effects (step);
CREATE TABLE holds (
  attachment INTEGER NOT NULL REFERENCES attachments (id),
  resource TEXT NOT NULL,
  PRIMARY KEY (attachment, resource)
) WITHOUT ROWID;
CREATE INDEX holders_of ON holds (resource);
)";

/// What schema 3 added: AIO contexts that volumes claim.
constexpr const char* kSchema3 = R"(
CREATE TABLE aio_reservations (
  attachment INTEGER PRIMARY KEY REFERENCES attachments (id),
  pid INTEGER,
  contexts INTEGER NOT NULL,
  since TEXT NOT NULL
);
)";

/// What schema 4 added: queues that a guest's agent is to put back.
constexpr const char* kSchema4 = R"(
CREATE TABLE lowered_queues (
  id INTEGER PRIMARY KEY AUTOINCREMENT,
  hypervisor TEXT NOT NULL,
  domain_uuid TEXT NOT NULL,
  domain_name TEXT NOT NULL,
  target TEXT NOT NULL,
  serial TEXT NOT NULL,
  device TEXT NOT NULL,
  before INTEGER NOT NULL,
  lowered INTEGER NOT NULL,
  since TEXT NOT NULL,
  UNIQUE (hypervisor, domain_uuid, device)
);
)";

constexpr const char* kColumns =
    "id, hypervisor, domain_uuid, domain_name, target, volume_type, serial, connection_info, disk_info, attachment, "
    "disk_xml, state, created";

constexpr std::array<std::pair<AttachmentState, std::string_view>, 5> kStates{
    {{AttachmentState::opened, "opened"},
     {AttachmentState::connected, "connected"},
     {AttachmentState::attached, "attached"},
     {AttachmentState::detached, "detached"},
     {AttachmentState::closed, "closed"}}};

constexpr std::array<std::pair<Step, std::string_view>, 9> kSteps{{{Step::connect, "connect"},
                                                                   {Step::serve, "serve"},
                                                                   {Step::attach, "attach"},
                                                                   {Step::detach, "detach"},
                                                                   {Step::withdraw, "withdraw"},
                                                                   {Step::disconnect, "disconnect"},
                                                                   {Step::extend, "extend"},
                                                                   {Step::resize, "resize"},
                                                                   {Step::limit, "limit"}}};

AttachmentState state_from_string(std::string_view name) {
  for (const auto& [state, spelling] : kStates)
    if (spelling == name) return state;
  return AttachmentState::opened;
}

AttachmentRecord read_record(SQLite::Statement& row) {
  AttachmentRecord record;
  int column = 0;
  const auto text = [&] { return row.getColumn(column++).getString(); };
  record.id = row.getColumn(column++).getInt64();
  record.hypervisor = text();
  record.domain_uuid = text();
  record.domain_name = text();
  record.target = text();
  record.volume_type = text();
  record.serial = text();
  record.connection_info = Json::parse(text());
  record.disk_info = Json::parse(text());
  record.attachment = Json::parse(text());
  record.disk_xml = text();
  record.state = state_from_string(text());
  record.created = text();
  return record;
}

/// Words in a key that mark its value as secret: auth_password, discovery_auth_password, keyring, secret_key, ...
bool is_secret_key(std::string key) {
  for (char& c : key) c = static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
  // A UUID that names a secret of libvirt's is no secret.
  if (key == "secret_uuid" || key == "secret_type") return false;
  for (const char* word :
       {"passw", "passphrase", "keyring", "secret", "private_key", "access_key", "credential", "token"})
    if (key.find(word) != std::string::npos) return true;
  return false;
}

}  // namespace

std::string_view to_string(Step step) {
  for (const auto& [value, spelling] : kSteps)
    if (value == step) return spelling;
  return {};
}

std::string_view to_string(AttachmentState state) {
  for (const auto& [value, spelling] : kStates)
    if (value == state) return spelling;
  return {};
}

Json redact(const Json& connection_info) {
  if (connection_info.is_array()) {
    Json copy = Json::array();
    for (const Json& element : connection_info) copy.push_back(redact(element));
    return copy;
  }
  if (!connection_info.is_object()) return connection_info;
  Json copy = Json::object();
  for (const auto& [key, value] : connection_info.items())
    copy[key] = is_secret_key(key) && !value.is_null() ? Json(kRedacted) : redact(value);
  return copy;
}

class Journal::Impl {
 public:
  Impl(const std::string& file, Clock& clock)
      : database_(file, SQLite::OPEN_READWRITE | SQLite::OPEN_CREATE, static_cast<int>(kBusyTimeout.count())),
        clock_(clock) {
    use_write_ahead_log();
    database_.exec("PRAGMA synchronous = FULL; PRAGMA foreign_keys = ON;");
    if (schema_version() != kSchemaVersion) bring_up_to_date();
  }

  /// Runs `work` in a transaction that has the write lock from the start; SQLite's errors become ours.
  template <typename Work>
  auto write(Work work) -> Result<decltype(work(std::declval<SQLite::Database&>()))> {
    return guarded([&] {
      SQLite::Transaction transaction(database_, SQLite::TransactionBehavior::IMMEDIATE);
      if constexpr (std::is_void_v<decltype(work(database_))>) {
        work(database_);
        transaction.commit();
      } else {
        auto result = work(database_);
        transaction.commit();
        return result;
      }
    });
  }

  template <typename Work>
  auto read(Work work) -> Result<decltype(work(std::declval<SQLite::Database&>()))> {
    return guarded([&] { return work(database_); });
  }

  /// The rows of a query for one attachment's texts.
  Result<std::vector<std::string>> texts(const char* query, std::int64_t attachment) {
    return read([&](SQLite::Database& database) {
      SQLite::Statement rows(database, query);
      SQLite::bind(rows, attachment);
      std::vector<std::string> texts;
      while (rows.executeStep()) texts.push_back(rows.getColumn(0).getString());
      return texts;
    });
  }

  /// Now, in UTC, as people and SQLite read it.
  std::string now() const {
    return fmt::format("{:%Y-%m-%dT%H:%M:%SZ}", fmt::gmtime(std::chrono::system_clock::to_time_t(clock_.wall())));
  }

  static Error to_error(const SQLite::Exception& error) {
    const bool busy = error.getErrorCode() == SQLITE_BUSY || error.getErrorCode() == SQLITE_LOCKED;
    return {busy ? ErrorKind::retry : ErrorKind::configuration,
            fmt::format("the journal: {}", error.what()),
            busy ? "another process holds it; try again" : "check the folder that state.dir names, and its free space",
            {}};
  }

 private:
  /// What is so already is only looked at. But for processes that change a new journal at the same moment SQLite does not
  /// wait: of two readers that want to write, each would wait for the other, so it fails one of them at once.
  /// Source: sqlite.org/c3ref/busy_handler.html
  void use_write_ahead_log() {
    const auto deadline = std::chrono::steady_clock::now() + kBusyTimeout;
    while (true) {
      try {
        database_.exec("PRAGMA journal_mode = WAL");
        return;
      } catch (const SQLite::Exception& error) {
        if (error.getErrorCode() != SQLITE_BUSY || std::chrono::steady_clock::now() > deadline) throw;
      }
      std::this_thread::sleep_for(std::chrono::milliseconds(5));
    }
  }

  int schema_version() { return database_.execAndGet("PRAGMA user_version").getInt(); }

  void bring_up_to_date() {
    SQLite::Transaction transaction(database_, SQLite::TransactionBehavior::IMMEDIATE);
    const int version = schema_version();  // another process may have done it meanwhile
    if (version > kSchemaVersion)
      throw SQLite::Exception(
          fmt::format("written by a newer Aiolos (schema {}, this one knows {})", version, kSchemaVersion));
    if (version < 1) database_.exec(kSchema);
    if (version < 2) database_.exec(kSchema2);
    if (version < 3) database_.exec(kSchema3);
    if (version < 4) database_.exec(kSchema4);
    database_.exec(fmt::format("PRAGMA user_version = {}", kSchemaVersion));
    transaction.commit();
  }

  template <typename Work>
  auto guarded(Work work) -> Result<decltype(work())> {
    const std::scoped_lock lock(mutex_);
    try {
      if constexpr (std::is_void_v<decltype(work())>) {
        work();
        return {};
      } else {
        return work();
      }
    } catch (const SQLite::Exception& error) {
      return tl::unexpected(to_error(error));
    } catch (const Json::exception& error) {
      return fail(ErrorKind::configuration, fmt::format("the journal holds a damaged record: {}", error.what()),
                  "look at journal.sqlite in state.dir with sqlite3");
    }
  }

  std::mutex mutex_;  // a SQLite connection and its statements serve one thread at a time
  SQLite::Database database_;
  Clock& clock_;
};

namespace {

void release_all(SQLite::Database& database, std::int64_t attachment) {
  for (const char* statement :
       {"DELETE FROM holds WHERE attachment = ?", "DELETE FROM aio_reservations WHERE attachment = ?"}) {
    SQLite::Statement release(database, statement);
    SQLite::bind(release, attachment);
    release.exec();
  }
}

}  // namespace

class Journal::VolumeEntry final : public VolumeJournal {
 public:
  VolumeEntry(Impl& journal, std::int64_t attachment, std::int64_t step)
      : journal_(journal), attachment_(attachment), step_(step) {}

  Result<std::int64_t> begin_effect(std::string_view what) override {
    return journal_.write([&](SQLite::Database& database) {
      SQLite::Statement insert(database, "INSERT INTO effects (step, what, phase, begun) VALUES (?, ?, 'intent', ?)");
      SQLite::bind(insert, step_, std::string(what), journal_.now());
      insert.exec();
      return static_cast<std::int64_t>(database.getLastInsertRowid());
    });
  }

  Result<void> end_effect(std::int64_t effect) override {
    return journal_.write([&](SQLite::Database& database) {
      SQLite::Statement end(database, "UPDATE effects SET phase = 'done', ended = ? WHERE id = ? AND step = ?");
      SQLite::bind(end, journal_.now(), effect, step_);
      end.exec();
    });
  }

  Result<void> hold(std::string_view resource) override {
    return change("INSERT OR IGNORE INTO holds (attachment, resource) VALUES (?, ?)", resource);
  }

  Result<void> release(std::string_view resource) override {
    return change("DELETE FROM holds WHERE attachment = ? AND resource = ?", resource);
  }

  Result<Holders> holders(std::string_view resource) override {
    return journal_.read([&](SQLite::Database& database) {
      SQLite::Statement query(database, "SELECT attachment FROM holds WHERE resource = ?");
      SQLite::bind(query, std::string(resource));
      Holders holders;
      while (query.executeStep()) {
        if (query.getColumn(0).getInt64() == attachment_)
          holders.held = true;
        else
          ++holders.others;
      }
      return holders;
    });
  }

 private:
  Result<void> change(const char* statement, std::string_view resource) {
    return journal_.write([&](SQLite::Database& database) {
      SQLite::Statement change(database, statement);
      SQLite::bind(change, attachment_, std::string(resource));
      change.exec();
    });
  }

  Impl& journal_;
  const std::int64_t attachment_;
  const std::int64_t step_;
};

Journal::Journal(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Journal::~Journal() = default;

Result<std::unique_ptr<Journal>> Journal::open(const std::string& dir, Clock& clock) {
  std::error_code error;
  std::filesystem::create_directories(dir, error);
  if (error)
    return fail(ErrorKind::configuration, fmt::format("cannot make the state folder {}: {}", dir, error.message()),
                "name a folder that may be written in state.dir");
  const std::string file = dir + "/journal.sqlite";
  // Made by us so that only its owner can read it; SQLite gives its companions (-wal, -shm) the same permissions.
  // Only if it is new: closing a descriptor of an open database would drop the locks of this process's connections.
  const int fd = ::open(file.c_str(), O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
  if (fd < 0 && errno != EEXIST)
    return fail(ErrorKind::configuration, fmt::format("cannot open the journal {}: {}", file, errno_text(errno)),
                "name a folder that may be written in state.dir");
  if (fd >= 0) ::close(fd);
  try {
    return std::unique_ptr<Journal>(new Journal(std::make_unique<Impl>(file, clock)));
  } catch (const SQLite::Exception& failure) {
    Error reported = Impl::to_error(failure);
    reported.where = file;
    return tl::unexpected(std::move(reported));
  }
}

Result<std::int64_t> Journal::open_attachment(const AttachmentRecord& record) {
  return impl_->write([&](SQLite::Database& database) {
    SQLite::Statement insert(database,
                             "INSERT INTO attachments (hypervisor, domain_uuid, domain_name, target, volume_type, "
                             "serial, connection_info, disk_info, state, created, changed) "
                             "VALUES (?, ?, ?, ?, ?, ?, ?, ?, 'opened', ?, ?)");
    const std::string now = impl_->now();
    SQLite::bind(insert, record.hypervisor, record.domain_uuid, record.domain_name, record.target, record.volume_type,
                 record.serial, redact(record.connection_info).dump(), record.disk_info.dump(), now, now);
    insert.exec();
    return static_cast<std::int64_t>(database.getLastInsertRowid());
  });
}

Result<void> Journal::keep_disk_xml(std::int64_t attachment, std::string_view xml) {
  return impl_->write([&](SQLite::Database& database) {
    SQLite::Statement keep(database, "UPDATE attachments SET disk_xml = ? WHERE id = ?");
    SQLite::bind(keep, std::string(xml), attachment);
    keep.exec();
  });
}

Result<std::int64_t> Journal::begin_step(std::int64_t attachment, Step step) {
  return impl_->write([&](SQLite::Database& database) {
    SQLite::Statement insert(database, "INSERT INTO steps (attachment, step, phase, begun) VALUES (?, ?, 'intent', ?)");
    SQLite::bind(insert, attachment, std::string(to_string(step)), impl_->now());
    insert.exec();
    return static_cast<std::int64_t>(database.getLastInsertRowid());
  });
}

Result<void> Journal::finish_step(std::int64_t step, AttachmentState state, const Json& result) {
  return impl_->write([&](SQLite::Database& database) {
    const std::string now = impl_->now();
    SQLite::Statement end(database, "UPDATE steps SET phase = 'done', ended = ? WHERE id = ?");
    SQLite::bind(end, now, step);
    end.exec();
    SQLite::Statement move(database,
                           "UPDATE attachments SET state = ?, changed = ?, attachment = coalesce(?, attachment) "
                           "WHERE id = (SELECT attachment FROM steps WHERE id = ?)");
    move.bind(1, std::string(to_string(state)));
    move.bind(2, now);
    if (!result.is_null()) move.bind(3, result.dump());
    move.bind(4, step);
    move.exec();
    if (state != AttachmentState::closed) return;
    SQLite::Statement of(database, "SELECT attachment FROM steps WHERE id = ?");
    SQLite::bind(of, step);
    if (of.executeStep()) release_all(database, of.getColumn(0).getInt64());
  });
}

Result<void> Journal::fail_step(std::int64_t step, const Error& error) {
  return impl_->write([&](SQLite::Database& database) {
    SQLite::Statement end(database, "UPDATE steps SET phase = 'failed', error = ?, ended = ? WHERE id = ?");
    SQLite::bind(end, describe(error), impl_->now(), step);
    end.exec();
  });
}

Result<std::vector<Step>> Journal::unfinished_steps(std::int64_t attachment) {
  return impl_->read([&](SQLite::Database& database) {
    SQLite::Statement query(database, "SELECT step FROM steps WHERE attachment = ? AND phase = 'intent' ORDER BY id");
    SQLite::bind(query, attachment);
    std::vector<Step> steps;
    while (query.executeStep())
      for (const auto& [step, spelling] : kSteps)
        if (query.getColumn(0).getString() == spelling) steps.push_back(step);
    return steps;
  });
}

Result<void> Journal::abandon_steps(std::int64_t attachment) {
  return impl_->write([&](SQLite::Database& database) {
    SQLite::Statement end(database,
                          "UPDATE steps SET phase = 'failed', error = 'interrupted', ended = ? "
                          "WHERE attachment = ? AND phase = 'intent'");
    SQLite::bind(end, impl_->now(), attachment);
    end.exec();
  });
}

Result<void> Journal::close(std::int64_t attachment) {
  return impl_->write([&](SQLite::Database& database) {
    SQLite::Statement end(database, "UPDATE attachments SET state = 'closed', changed = ? WHERE id = ?");
    SQLite::bind(end, impl_->now(), attachment);
    end.exec();
    release_all(database, attachment);
  });
}

std::unique_ptr<VolumeJournal> Journal::volume_journal(std::int64_t attachment, std::int64_t step) {
  return std::make_unique<VolumeEntry>(*impl_, attachment, step);
}

Result<std::vector<std::string>> Journal::unfinished_effects(std::int64_t attachment) {
  return impl_->texts(
      "SELECT what FROM effects JOIN steps ON steps.id = effects.step WHERE attachment = ? AND "
      "effects.phase = 'intent' AND steps.phase <> 'done' ORDER BY effects.id",
      attachment);
}

Result<std::vector<std::string>> Journal::held_resources(std::int64_t attachment) {
  return impl_->texts("SELECT resource FROM holds WHERE attachment = ? ORDER BY resource", attachment);
}

Result<void> Journal::reserve_aio(std::int64_t attachment, std::optional<int> pid, unsigned contexts) {
  return impl_->write([&](SQLite::Database& database) {
    SQLite::Statement claim(database,
                            "INSERT OR REPLACE INTO aio_reservations (attachment, pid, contexts, since) "
                            "VALUES (?, ?, ?, ?)");
    claim.bind(1, attachment);
    if (pid) claim.bind(2, *pid);
    claim.bind(3, contexts);
    claim.bind(4, impl_->now());
    claim.exec();
  });
}

Result<std::vector<AioReservation>> Journal::aio_reservations() {
  return impl_->read([&](SQLite::Database& database) {
    SQLite::Statement query(
        database,
        "SELECT aio_reservations.attachment, domain_name, domain_uuid, target, pid, contexts, since "
        "FROM aio_reservations JOIN attachments ON attachments.id = aio_reservations.attachment "
        "WHERE state <> 'closed' ORDER BY aio_reservations.attachment");
    std::vector<AioReservation> reservations;
    while (query.executeStep()) {
      AioReservation each;
      each.attachment = query.getColumn(0).getInt64();
      each.domain_name = query.getColumn(1).getString();
      each.domain_uuid = query.getColumn(2).getString();
      each.target = query.getColumn(3).getString();
      if (!query.getColumn(4).isNull()) each.pid = query.getColumn(4).getInt();
      each.contexts = query.getColumn(5).getUInt();
      each.since = query.getColumn(6).getString();
      reservations.push_back(std::move(each));
    }
    return reservations;
  });
}

Result<void> Journal::keep_lowered(std::string_view hypervisor, std::string_view domain_uuid,
                                   std::string_view domain_name, const std::vector<LoweredQueue>& lowered) {
  return impl_->write([&](SQLite::Database& database) {
    for (const LoweredQueue& each : lowered) {
      SQLite::Statement keep(
          database,
          "INSERT INTO lowered_queues (hypervisor, domain_uuid, domain_name, target, serial, device, "
          "before, lowered, since) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?) "
          "ON CONFLICT (hypervisor, domain_uuid, device) DO UPDATE SET lowered = excluded.lowered, "
          "before = CASE excluded.before WHEN lowered THEN before ELSE excluded.before END");
      SQLite::bind(keep, std::string(hypervisor), std::string(domain_uuid), std::string(domain_name), each.target,
                   each.serial, each.device, each.before, each.lowered, impl_->now());
      keep.exec();
    }
  });
}

Result<std::vector<KeptQueue>> Journal::lowered_queues(std::string_view hypervisor) {
  return impl_->read([&](SQLite::Database& database) {
    SQLite::Statement query(database,
                            "SELECT id, domain_uuid, domain_name, target, serial, device, before, lowered "
                            "FROM lowered_queues WHERE hypervisor = ? ORDER BY id");
    SQLite::bind(query, std::string(hypervisor));
    std::vector<KeptQueue> kept;
    while (query.executeStep()) {
      const auto text = [&](int column) { return query.getColumn(column).getString(); };
      kept.push_back({query.getColumn(0).getInt64(),
                      text(1),
                      text(2),
                      {text(3), text(4), text(5), query.getColumn(6).getUInt(), query.getColumn(7).getUInt()}});
    }
    return kept;
  });
}

Result<void> Journal::forget_lowered(std::int64_t id) {
  return impl_->write([&](SQLite::Database& database) {
    SQLite::Statement forget(database, "DELETE FROM lowered_queues WHERE id = ?");
    SQLite::bind(forget, id);
    forget.exec();
  });
}

Result<std::optional<AttachmentRecord>> Journal::find(std::string_view hypervisor, std::string_view domain_uuid,
                                                      std::string_view target, bool closed_too) {
  return impl_->read([&](SQLite::Database& database) {
    SQLite::Statement query(database, fmt::format("SELECT {} FROM attachments WHERE hypervisor = ? AND "
                                                  "domain_uuid = ? AND target = ? AND (state <> 'closed' OR ?) "
                                                  "ORDER BY state = 'closed', id DESC LIMIT 1",
                                                  kColumns));
    SQLite::bind(query, std::string(hypervisor), std::string(domain_uuid), std::string(target), closed_too ? 1 : 0);
    std::optional<AttachmentRecord> record;
    if (query.executeStep()) record = read_record(query);
    return record;
  });
}

Result<std::vector<AttachmentRecord>> Journal::open_attachments() {
  return impl_->read([&](SQLite::Database& database) {
    SQLite::Statement query(database,
                            fmt::format("SELECT {} FROM attachments WHERE state <> 'closed' ORDER BY id", kColumns));
    std::vector<AttachmentRecord> records;
    while (query.executeStep()) records.push_back(read_record(query));
    return records;
  });
}

}  // namespace aiolos
