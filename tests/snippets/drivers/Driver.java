import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.util.Base64;

public final class Driver {
    public static void main(String[] arguments) throws Exception {
        BufferedReader lines = new BufferedReader(new InputStreamReader(System.in));
        for (String line = lines.readLine(); line != null; line = lines.readLine()) {
            String[] part = line.split("\t", -1);
            for (int place = 1; place < 4; place++) {
                part[place] = part[place].isEmpty() ? null : part[place]; // as a header that is missing is read
            }
            byte[] body = Base64.getDecoder().decode(part[4]);
            System.out.println(Webhooks.verified(part[0], part[1], part[2], part[3], body) ? "yes" : "no");
        }
    }
}
