-- Asks the Tidegate worker on this machine whether a user may come in now.
-- One file for Dovecot 2.3 and 2.4; Debian's package dovecot-auth-lua runs it.
--
--   password question (a "deny" passdb, before all others)
--     held  -> the login ends here: "try again later", in the user's language
--     open  -> "I do not know him", and Dovecot goes on to your own password check
--   mailbox question (the first userdb; deliveries ask only this one)
--     held  -> temporary failure: mail stays in the sender's queue
--     open  -> goes on to your own userdb, which says where the mailbox is
--   no answer, a late answer, an odd answer -> temporary failure. Nobody slips through,
--     nobody is told that his password is wrong, nothing bounces.
--
-- It never says that a user does not exist: that would bounce his mail.

-- Where the worker listens: `admission_listen` in worker.toml. Always this machine.
local GATE = "http://127.0.0.1:10390/gate/"

-- The worker answers within a millisecond, also while it works hard. Whoever has to wait
-- for two seconds gets a temporary failure. The second attempt is for the moment after a
-- restart of the worker, when connections that were kept turn out to be closed.
local SETTINGS_2_3 = {
  connect_timeout_msecs = 500,
  request_absolute_timeout_msecs = 2000,
  max_attempts = 2,
}
local SETTINGS_2_4 = {
  connect_timeout = "500ms",
  request_absolute_timeout = "2s",
  request_max_attempts = 2,
}

local client

local function new_client()
  -- 2.4 refuses the names of 2.3. The other way round, 2.3 would ignore those of 2.4 and
  -- wait for a minute: so the old names are tried first.
  local ok, made = pcall(dovecot.http.client, SETTINGS_2_3)
  if not ok then
    made = dovecot.http.client(SETTINGS_2_4)
  end
  return made
end

function script_init()
  client = new_client()
  return 0
end

-- Dovecot 2.4 has other names for the same things, and does not like to be asked for
-- names that it does not have.
local function of(request, ...)
  for _, name in ipairs({ ... }) do
    local ok, value = pcall(function() return request[name] end)
    if ok and value ~= nil and value ~= "" then
      return tostring(value)
    end
  end
  return nil
end

local function service_of(request)
  return of(request, "protocol", "service") or "-"
end

local function escaped(text)
  return (text:gsub("[^%w%-%._~@]", function(c) return string.format("%%%02X", c:byte()) end))
end

-- One string of a flat JSON object. The worker never sends a quotation mark inside one.
local function member(body, name)
  return body:match('"' .. name .. '"%s*:%s*"([^"]*)"')
end

-- The address of the mailbox in Tidegate's inventory, by the name that somebody logs in
-- with. Where these are not the same (old domains, aliases that your passdb resolves), say
-- here how to get from one to the other: unknown names are held for ever.
local function mailbox_of(name)
  return name
end

-- Returns the status and the body.
local function get(path)
  local response = client:request({ url = GATE .. path, method = "GET" }):submit()
  return response:status(), response:payload()
end

-- Statuses from here on are Dovecot's own, for requests that came to nothing.
local NO_ANSWER = 9000

-- Returns "online"; or "held" and what to tell the user; or nothing and what went wrong.
local function ask(question, request)
  local mailbox = mailbox_of(request.user)
  local path = question .. "/" .. escaped(service_of(request)) .. "/" .. escaped(mailbox)
  -- The port tells webmail from other IMAP programs.
  local port = of(request, "lport", "local_port")
  if port then
    path = path .. "?lport=" .. escaped(port)
  end
  local status, body = get(path)
  if status >= NO_ANSWER then
    -- A client whose connection failed waits longer before each next attempt, up to a
    -- minute: people would be kept out for that long after the worker is back. A new client
    -- knows nothing of that, once the old one is really gone.
    client = nil
    collectgarbage()
    client = new_client()
  end
  if status ~= 200 then
    return nil, "tidegate: HTTP " .. tostring(status)
  end
  local state = member(body, "state")
  if state == "online" then
    return state
  elseif state == "held" then
    local text = member(body, "reason") or "Your mailbox is being restored."
    return state, (text:gsub("^%[[^%]]*%] ?", ""))
  end
  return nil, "tidegate: no answer that makes sense"
end

-- Our own text goes out only where it does not turn into "wrong password": in
-- IMAP and POP3, which take the code from its beginning, and with mechanisms that send the
-- password itself. Everybody else gets a temporary failure with Dovecot's own text.
local CODES = { imap = "[UNAVAILABLE] ", pop3 = "[SYS/TEMP] " }
local MECHANISMS = { PLAIN = true, LOGIN = true }

function auth_passdb_lookup(request)
  local state, text = ask("passdb", request)
  if state == "online" then
    return dovecot.auth.PASSDB_RESULT_USER_UNKNOWN, "tidegate: open"
  elseif state == "held" then
    local code = CODES[service_of(request)]
    if code and MECHANISMS[of(request, "mech", "mechanism") or "-"] then
      -- "nodelay": no waiting, and no penalty for other users behind the same address.
      return dovecot.auth.PASSDB_RESULT_OK,
        { nopassword = "y", nodelay = "y", reason = code .. text }
    end
    return dovecot.auth.PASSDB_RESULT_INTERNAL_FAILURE, "tidegate: held"
  end
  return dovecot.auth.PASSDB_RESULT_INTERNAL_FAILURE, text
end

function auth_userdb_lookup(request)
  local state, text = ask("userdb", request)
  if state == "online" then
    return dovecot.auth.USERDB_RESULT_OK, {}
  elseif state == "held" then
    -- Not an internal failure: 2.4 would let the delivery wait for two seconds first.
    return dovecot.auth.USERDB_RESULT_OK, { tempfail = "y", reason = text }
  end
  return dovecot.auth.USERDB_RESULT_INTERNAL_FAILURE, text
end

-- For "doveadm user '*'": we list nobody, your own userdb does. Without this function the
-- listing would end with an error.
function auth_userdb_iterate()
  return {}
end
