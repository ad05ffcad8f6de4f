require File.expand_path(ARGV.shift)
$stdin.each_line(chomp: true) do |line|
  secret, id, stamp, signature, body = line.split("\t", -1)
  puts verified(secret, id, stamp, signature, body.unpack1("m")) ? "yes" : "no"
end
