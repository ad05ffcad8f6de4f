import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.nio.charset.StandardCharsets;
import java.util.Base64;

public final class Driver {
    public static void main(String[] arguments) throws Exception {
        BufferedReader lines = new BufferedReader(new InputStreamReader(System.in, StandardCharsets.UTF_8));
        for (String line = lines.readLine(); line != null; line = lines.readLine()) {
            String[] encoded = line.split("\t", -1);
            String[] part = new String[4];
            for (int place = 0; place < 4; place++) {
                // As a servlet reads headers; one that is missing is null.
                String text = new String(Base64.getDecoder().decode(encoded[place]), StandardCharsets.ISO_8859_1);
                part[place] = place > 0 && text.isEmpty() ? null : text;
            }
            byte[] body = Base64.getDecoder().decode(encoded[4]);
            try {
                System.out.println(Webhooks.verified(part[0], part[1], part[2], part[3], body) ? "yes" : "no");
            } catch (IllegalArgumentException raised) {
                System.out.println("raised");
            }
        }
    }
}
